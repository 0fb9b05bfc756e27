"""Mamba-2, the state space whose decay is one number per head."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax.mixers import _steps
from seqjax.mixers._matrix import Convolved
from seqjax.ops.matrix_state import Tokens
from seqjax.types import Count


class Mamba2(Convolved):
    """Mamba-2: a selective state space whose decay is one number per head, so that it is a linear attention, too.

        z, u, b, c, dt = W x_t          (u, z: E = `expansion` D channels; b, c: N = `state_size` numbers for all heads)
        u, b, c = silu(conv(u, b, c))          (causal, `conv_width` tokens, one filter per channel; 0: none)
        dt  = softplus(dt + bias_dt),   g = -exp(rate) dt          (one number per head)
        S_t = exp(g) S_{t-1} + b (dt u)^T
        y_t = W_o norm((S_t^T c + d u) * silu(z))          (root mean square norm over all channels)

    exp(rate) starts uniform in [1, 16], dt log-uniform in [0.001, 0.1], d at 1. State: S (B, H, N, E / H), float32,
    after the last conv_width - 1 inputs of the convolution, (B, conv_width - 1, E + 2 N). With
    `apply(..., mutable=["intermediates"])` the weights of dt u (B, H, L, L) are returned as "weights".

    Dao and Gu 2024, "Transformers are SSMs", arXiv:2405.21060.

    Raises:
      ValueError: heads do not divide the width; conv_width is 1.
    """

    expansion: Count = 2
    state_size: Count = 64

    cuttable = True

    @property
    def key_width(self) -> int:
        return self.state_size

    @property
    def value_width(self) -> int:
        return self.expansion * self.width // self.heads

    @property
    def convolved(self) -> int:
        return self.expansion * self.width + 2 * self.state_size

    def setup(self):
        E, H = self.expansion * self.width, self.heads
        self.inputs, self.out = self.dense(E + self.convolved), self.dense(self.width)
        self.gates = self.param("gates", nn.initializers.lecun_normal(), (self.width, H))
        self.rate = self.param("rate", _steps.init_rate, (H,))
        self.bias_dt = self.param("bias_dt", _steps.init, (H,))
        self.skip = self.param("skip", nn.initializers.ones, (H,))
        self.scale = self.param("scale", nn.initializers.ones, (E,))
        self.bias = self.param("bias", nn.initializers.zeros, (self.convolved,))
        self.setup_filter()

    def mix(self, x_BLD, state, mask_BL, reset_BL):
        E, N = self.expansion * self.width, self.state_size
        z_BLE, ubc_BLM = jnp.split(self.inputs(x_BLD), [E], axis=-1)
        ubc_BLM, cache_BRM, S_BHNP = self.convolve(ubc_BLM, state, mask_BL, reset_BL, self.bias)
        u_BLE, b_BLN, c_BLN = jnp.split(ubc_BLM, [E, E + N], axis=-1)
        dt_BLH, u_BLHP = self.gate(x_BLD, self.gates), self.split(u_BLE).astype(jnp.float32)
        g_BLH1 = _steps.decay(self.rate, dt_BLH, self.bias_dt)[..., None]
        dt_BLH1 = jax.nn.softplus(dt_BLH + self.bias_dt[None, None])[..., None]
        tokens_of = lambda v_BLHX: Tokens(c_BLN[:, :, None], g_BLH1, b_BLN[:, :, None], v_BLHX)
        y_BLHP, S_BHNP = self.recur(tokens_of, dt_BLH1 * u_BLHP, S_BHNP, mask_BL, reset_BL)
        y_BLHP = y_BLHP + self.skip[None, None, :, None] * u_BLHP
        y_BLE = y_BLHP.reshape(z_BLE.shape) * jax.nn.silu(z_BLE.astype(jnp.float32))
        return self.out(self.norm(y_BLE) * self.scale[None, None]), self.pack(cache_BRM, S_BHNP)


Mixer = Mamba2
