"""The diagonal structured state space."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from seqjax.mixers import _steps
from seqjax.mixers._layers import Dense
from seqjax.mixers._linear import LinearMixer
from seqjax.ops import state_space
from seqjax.types import Count


class S4D(LinearMixer):
    """S4D: a state space of its own for each channel, the same for all tokens, whose states start as a Fourier series.

        A   = -exp(rate) + i frequency,   a = exp(dt A)
        h_t = a * h_{t-1} + x_t                                  (N = `state_size` complex states per channel)
        u_t = 2 Re(sum_n c_n (a_n - 1) / A_n h_{t,n}) + d * x_t
        y_t = v * sigmoid(w),   v, w = W gelu(u_t) + b

    A starts at -1/2 + i pi n, n = 0 ... N - 1 (S4D-Lin), dt log-uniform in [0.001, 0.1] per channel. Each complex state
    stands for a conjugate pair. It computes its recurrence, not the convolution of the paper, which knows no resets.
    State: real and imaginary part of h, each (B, N, D), float32.

    Gu et al. 2022, "On the parameterization and initialization of diagonal state space models", arXiv:2206.11893.
    """

    state_size: Count = 32

    cuttable = True
    vectors = ("c", "frequency", "rate")

    def setup(self):
        N, D = self.state_size, self.width
        self.rate = self.param("rate", nn.initializers.constant(np.log(0.5)), (N, D))
        self.frequency = self.param("frequency", lambda key: jnp.tile(jnp.pi * jnp.arange(N)[:, None], (1, D)))
        self.dt = self.param("dt", _steps.init, (D,))
        self.c = self.param("c", nn.initializers.normal(0.5**0.5), (2, N, D))
        self.skip = self.param("skip", nn.initializers.normal(1.0), (D,))
        self.out = Dense(2 * D, dtype=self.dtype)

    @nn.nowrap
    def init_state(self, batch: int):
        zeros = jnp.zeros((batch, self.state_size, self.width), jnp.float32)
        return zeros, zeros

    def mix(self, x_BLD, state, mask_BL, reset_BL):
        rate_ND = lax.complex(-jnp.exp(self.rate), self.frequency)
        step_ND = jax.nn.softplus(self.dt)[None] * rate_ND
        c_ND = 2 * lax.complex(*self.c) * jnp.expm1(step_ND) / rate_ND
        u_BLD, h_BND = state_space.fixed(x_BLD, jnp.exp(step_ND), c_ND, lax.complex(*state), mask_BL, reset_BL)
        u_BLD = jax.nn.gelu(u_BLD + self.skip[None, None] * x_BLD)
        return nn.glu(self.out(u_BLD)), (h_BND.real, h_BND.imag)


Mixer = S4D
