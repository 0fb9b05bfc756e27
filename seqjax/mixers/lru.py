"""The linear recurrent unit."""

from typing import Annotated

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from seqjax.mixers._layers import Dense
from seqjax.mixers._linear import LinearMixer
from seqjax.ops import linear
from seqjax.types import Count, Fraction, Positive, Range


class LRU(LinearMixer):
    """LRU: a diagonal linear recurrence of complex states; each state rotates and decays at its own learned rate.

        h_t = lambda * h_{t-1} + exp(gamma) * B x_t,   lambda = exp(-exp(nu) + i exp(theta))
        y_t = Re(C h_t) + d * x_t

    lambda starts uniform in the ring r_min <= |lambda| <= r_max with phases up to `max_phase`. exp(gamma) starts at
    sqrt(1 - |lambda|^2): with white noise as input, all states then have the same variance. `state_size` is the number
    of complex states; None: the width. State: real and imaginary part of h, each (B, N), float32.

    Orvieto et al. 2023, "Resurrecting recurrent neural networks for long sequences", arXiv:2303.06349.

    Raises:
      ValueError: r_min is not below r_max.
    """

    state_size: Count | None = None
    r_min: Fraction = 0.0
    r_max: Annotated[float, Range(above=0, most=1)] = 1.0
    max_phase: Positive = 6.28

    cuttable = True

    def __post_init__(self):
        super().__post_init__()
        if self.r_min >= self.r_max:
            raise ValueError(f"mixer.r_min={self.r_min} is not below mixer.r_max={self.r_max}: lower mixer.r_min.")

    def setup(self):
        D, N = self.width, self.state_size or self.width
        self.nu = self.param("nu", self._init_nu, (N,))
        self.theta = self.param("theta", self._init_theta, (N,))
        self.gamma = self.param("gamma", lambda key: 0.5 * jnp.log(-jnp.expm1(-2 * jnp.exp(self.nu))))
        # Real and imaginary parts are side by side; each has half the variance: of 1 / D for B, of 2 / N for C.
        normal = lambda variance: nn.initializers.variance_scaling(variance, "fan_in", "normal")
        dense = lambda n, init: Dense(n, use_bias=False, dtype=self.dtype, kernel_init=init)
        self.inputs, self.outputs = dense(2 * N, normal(0.5)), dense(D, normal(2.0))
        self.skip = self.param("skip", nn.initializers.normal(1.0), (D,))

    @nn.nowrap
    def _init_nu(self, key, shape):
        inner, outer = self.r_min**2, self.r_max**2
        # 1 - |lambda|^2, uniform; never 0, because then no input would change the state.
        fade = (1 - outer) + (outer - inner) * jax.random.uniform(key, shape, minval=1e-6)
        return jnp.log(-0.5 * jnp.log1p(-fade))

    @nn.nowrap
    def _init_theta(self, key, shape):
        return jnp.log(self.max_phase * jax.random.uniform(key, shape, minval=1e-6))

    @nn.nowrap
    def init_state(self, batch: int):
        zeros = jnp.zeros((batch, self.state_size or self.width), jnp.float32)
        return zeros, zeros

    def mix(self, x_BLD, state, mask_BL, reset_BL):
        u_BLD = x_BLD.astype(self.dtype)
        b_BLN = lax.complex(*jnp.split(self.inputs(u_BLD).astype(jnp.float32), 2, axis=-1))
        b_BLN = b_BLN * jnp.exp(self.gamma)[None, None]
        lambda_N = jnp.exp(lax.complex(-jnp.exp(self.nu), jnp.exp(self.theta)))
        a_BLN = jnp.broadcast_to(lambda_N[None, None], b_BLN.shape)
        h_BLN, end_BN = linear.diagonal(a_BLN, b_BLN, lax.complex(*state), mask_BL, reset_BL)
        # Re(C h) subtracts the imaginary product; here the kernel learns that sign.
        y_BLD = self.outputs(jnp.concatenate([h_BLN.real, h_BLN.imag], axis=-1))
        return y_BLD + self.skip[None, None] * u_BLD, (end_BN.real, end_BN.imag)


Mixer = LRU
