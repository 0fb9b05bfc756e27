"""The selective state space of Mamba."""

import math
from typing import Annotated

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax.mixers import _steps
from seqjax.mixers._layers import Dense
from seqjax.mixers._linear import LinearMixer
from seqjax.ops import conv, dense, state_space
from seqjax.types import Count, Range


class Mamba(LinearMixer):
    """Mamba: a state space whose steps, inputs and outputs depend on the token, so that it can choose what to keep.

        u, z     = W_u x_t, W_z x_t                     (E = `expansion` D channels)
        u        = silu(conv(u))                        (causal, one filter of `conv_width` tokens per channel)
        dt       = softplus(W_dt W_1 u + b_dt)          (W_1 of rank `rank`; None: D / 16)
        b, c     = W_b u, W_c u                         (N = `state_size` numbers, the same for all channels)
        h_t      = exp(dt A) * h_{t-1} + b (dt * u)^T
        y_t      = W_o ((h_t^T c + d * u) * silu(z))

    A = -exp(rate) starts at -1 ... -N in each channel, d at 1, dt log-uniform in [0.001, 0.1] per channel. `signed`:
    the decay is 2 exp(dt A) - 1, which can be negative, so that a token can change the sign of the state; parity needs
    that. State: the last conv_width - 1 inputs of the convolution, (B, conv_width - 1, E), and h, (B, N, E), float32.

    Gu and Dao 2023, "Mamba: linear-time sequence modeling with selective state spaces", arXiv:2312.00752; signed:
    Grazzi et al. 2024, arXiv:2411.12537.
    """

    state_size: Count = 16
    expansion: Count = 2
    conv_width: Annotated[int, Range(least=2, most=256)] = 4
    rank: Count | None = None
    signed: bool = False

    cuttable = True
    vectors = ("filter", "rate")

    @property
    def _channels(self) -> int:
        return self.expansion * self.width

    @property
    def _rank(self) -> int:
        return self.rank or math.ceil(self.width / 16)

    def setup(self):
        E, N, R, W = self._channels, self.state_size, self._rank, self.conv_width
        product = lambda n: Dense(n, use_bias=False, dtype=self.dtype)
        uniform = lambda most: lambda key, shape: jax.random.uniform(key, shape, minval=-most, maxval=most)
        self.inputs, self.choice, self.out = product(2 * E), product(R + 2 * N), product(self.width)
        self.filter = self.param("filter", uniform(W**-0.5), (W, E))
        self.bias = self.param("bias", uniform(W**-0.5), (E,))
        self.kernel_dt = self.param("kernel_dt", uniform(R**-0.5), (R, E))
        self.bias_dt = self.param("bias_dt", _steps.init, (E,))
        rate_N = jnp.log(jnp.arange(1.0, N + 1))
        self.rate = self.param("rate", lambda key: jnp.broadcast_to(rate_N[:, None], (N, E)))
        self.skip = self.param("skip", nn.initializers.ones, (E,))

    @nn.nowrap
    def init_state(self, batch: int):
        zeros = lambda n: jnp.zeros((batch, n, self._channels), jnp.float32)
        return zeros(self.conv_width - 1), zeros(self.state_size)

    def mix(self, x_BLD, state, mask_BL, reset_BL):
        inputs_BRE, h_BNE = state
        N, R = self.state_size, self._rank
        u_BLE, z_BLE = jnp.split(self.inputs(x_BLD), 2, axis=-1)
        u_BLE, inputs_BRE = conv.depthwise(u_BLE, self.filter, inputs_BRE, mask_BL, reset_BL)
        u_BLE = jax.nn.silu(u_BLE + self.bias[None, None]).astype(self.dtype)
        dt_BLR, b_BLN, c_BLN = jnp.split(self.choice(u_BLE), [R, R + N], axis=-1)
        dt_BLE = dense.einsum("BLR,RE->BLE", dt_BLR, self.kernel_dt, self.dtype, out=jnp.float32)
        dt_BLE = jax.nn.softplus(dt_BLE + self.bias_dt[None, None])
        y_BLE, h_BNE = state_space.selective(
            u_BLE, dt_BLE, -jnp.exp(self.rate), b_BLN, c_BLN, h_BNE, mask_BL, reset_BL, self.signed
        )
        y_BLE = (y_BLE + self.skip[None, None] * u_BLE) * jax.nn.silu(z_BLE.astype(jnp.float32))
        return self.out(y_BLE), (inputs_BRE, h_BNE)


Mixer = Mamba
