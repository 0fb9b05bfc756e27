"""The simple recurrent unit."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax.mixers._layers import Dense
from seqjax.mixers._linear import LinearMixer
from seqjax.ops import cells, linear, scan


class SRU(LinearMixer):
    """SRU: a light recurrence without recurrent matrices, and a highway connection around it.

        f   = sigmoid(W_f x_t + v_f * c_{t-1} + b_f)
        r   = sigmoid(W_r x_t + v_r * c_{t-1} + b_r)
        c_t = f * c_{t-1} + (1 - f) * W x_t
        y_t = r * c_t + (1 - r) * alpha x_t,   alpha = sqrt(1 + 2 exp(highway_bias))

    peepholes=False leaves out v_f and v_r. The gates then do not see the state, the recurrence is linear, and it runs
    several times faster; sequences can be cut over devices. With them (the published unit) each token must wait for the
    one before. b_r starts at `highway_bias`, and a negative one lets more of x pass through a deep stack at the start;
    alpha keeps the variance of y at that of x. State: c (B, D), float32.

    Lei et al. 2018, "Simple recurrent units for highly parallelizable recurrence", arXiv:1709.02755, and the authors'
    code for the initial gates and v.
    """

    peepholes: bool = True
    highway_bias: float = 0.0

    @property
    def cuttable(self):
        return not self.peepholes

    def setup(self):
        D = self.width
        self.inputs = Dense(3 * D, use_bias=False, dtype=self.dtype, kernel_init=self._init_kernel)
        self.bias = self.param("bias", lambda key: jnp.repeat(jnp.float32([0, self.highway_bias]), D))
        if self.peepholes:
            # Variance 1/2: with a state of variance 1, half of that of a gate.
            uniform = lambda key: math.sqrt(1.5) * jax.random.uniform(key, (2 * D,), minval=-1.0)
            self.v = self.param("v", uniform)

    @nn.nowrap
    def _init_kernel(self, key, shape, dtype=jnp.float32):
        """Uniform, of variance 1 / D; half of that for gates with peepholes, which add the other half."""
        D = self.width
        kernel = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")(key, shape, dtype)
        return kernel.at[:, D:].multiply(math.sqrt(0.5)) if self.peepholes else kernel

    @nn.nowrap
    def init_state(self, batch: int):
        return jnp.zeros((batch, self.width), jnp.float32)

    def mix(self, x_BLD, state, mask_BL, reset_BL):
        D = self.width
        u_BLM = self.inputs(x_BLD).astype(jnp.float32).at[..., D:].add(self.bias[None, None])
        skip_BLD = math.sqrt(1 + 2 * math.exp(self.highway_bias)) * x_BLD.astype(jnp.float32)
        if self.peepholes:
            zeros_BD = jnp.zeros_like(state)
            # One copy of v per row: its gradient is then summed over rows after the loop, not inside it.
            rows = {"v": jnp.broadcast_to(self.v[None], (len(state), 2 * D))}
            u = {"x": u_BLM, "skip": skip_BLD}
            flags = dict(mask_BL=mask_BL, reset_BL=reset_BL)
            y_BLD, (_, c_BD) = scan.recur(cells.sru, u, {}, rows, (zeros_BD, state), (zeros_BD, zeros_BD), **flags)
            return y_BLD, c_BD
        w_BLD, f_BLD, r_BLD = jnp.split(u_BLM, 3, axis=-1)
        keep_BLD, take_BLD, r_BLD = jax.nn.sigmoid(f_BLD), jax.nn.sigmoid(-f_BLD), jax.nn.sigmoid(r_BLD)
        c_BLD, c_BD = linear.diagonal(keep_BLD, take_BLD * w_BLD, state, mask_BL, reset_BL)
        return r_BLD * c_BLD + (1 - r_BLD) * skip_BLD, c_BD


Mixer = SRU
