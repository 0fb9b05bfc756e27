"""A convolution, multiplied by a gate."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax.mixers._layers import Dense
from seqjax.mixers._linear import LinearMixer
from seqjax.ops import conv
from seqjax.types import Taps


class GatedConv(LinearMixer):
    """Gated convolution: a short causal convolution, one filter per feature, times a function of the token.

        y_t = f(W_1 x_t + b_1) * (sum_j w_j * (W_2 x_{t-j} + b_2) + b),   j = 0 ... W - 1

    W = `kernel_size`. `activation`: f = sigmoid ("sigmoid", as in the gated convolutions of Dauphin et al. 2016,
    arXiv:1612.08083, whose gate and filters read all features of the window), f(v) = v ("none", as in Arora et al.
    2023, "Zoology", arXiv:2312.04927), or "silu". State: the last W - 1 inputs of the filter (B, W - 1, D), float32.
    """

    kernel_size: Taps = 3
    activation: Literal["sigmoid", "silu", "none"] = "none"

    cuttable = True
    vectors = ("filter",)

    def setup(self):
        self.inputs = Dense(2 * self.width, dtype=self.dtype)
        self.filter = self.param("filter", nn.initializers.lecun_normal(), (self.kernel_size, self.width))
        self.bias = self.param("bias", nn.initializers.zeros, (self.width,))

    @nn.nowrap
    def init_state(self, batch: int):
        return jnp.zeros((batch, self.kernel_size - 1, self.width), jnp.float32)

    def mix(self, x_BLD, state, mask_BL, reset_BL):
        gate_BLD, v_BLD = jnp.split(self.inputs(x_BLD), 2, axis=-1)
        v_BLD, state = conv.depthwise(v_BLD, self.filter, state, mask_BL, reset_BL)
        f = {"sigmoid": jax.nn.sigmoid, "silu": jax.nn.silu, "none": lambda v: v}[self.activation]
        return f(gate_BLD) * (v_BLD + self.bias[None, None]), state


Mixer = GatedConv
