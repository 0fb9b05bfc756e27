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
    """Gated convolution: a short causal convolution times a gate.

        depthwise:      y_t = f(W_1 x_t + b_1) * (sum_j w_j * (W_2 x_{t-j} + b_2) + b),      j = 0 ... W - 1
        not depthwise:  y_t = f(sum_j K_j x_{t-j} + b_1) * (sum_j V_j x_{t-j} + b_2)

    W = `kernel_size`. A `depthwise` convolution has one filter w per feature, after a projection, and a gate of the
    token alone; with `activation` "none", f(v) = v, it is that of Arora et al. 2023, "Zoology", arXiv:2312.04927.
    Without `depthwise`, the gate and what it multiplies are two convolutions over all features; with "sigmoid" they are
    those of Dauphin et al. 2016, "Language modeling with gated convolutional networks", arXiv:1612.08083. State: the
    last W - 1 inputs of the convolution (B, W - 1, D), float32.
    """

    kernel_size: Taps = 3
    activation: Literal["sigmoid", "silu", "none"] = "none"
    depthwise: bool = True

    family = "convolution"
    cuttable = True
    vectors = ("filter",)

    def setup(self):
        D, W, zeros = self.width, self.kernel_size, nn.initializers.zeros
        if self.depthwise:
            self.inputs = Dense(2 * D, dtype=self.dtype)
            self.filter = self.param("filter", nn.initializers.lecun_normal(), (W, D))
            self.bias = self.param("bias", zeros, (D,))
        else:
            self.kernel = self.param("kernel", nn.initializers.lecun_normal(), (W, D, 2 * D))
            self.bias = self.param("bias", zeros, (2 * D,))

    @nn.nowrap
    def init_state(self, batch: int):
        return jnp.zeros((batch, self.kernel_size - 1, self.width), jnp.float32)

    def mix(self, x_BLD, state, mask_BL, reset_BL):
        if self.depthwise:
            gate_BLD, v_BLD = jnp.split(self.inputs(x_BLD), 2, axis=-1)
            v_BLD, state = conv.depthwise(v_BLD, self.filter, state, mask_BL, reset_BL)
            v_BLD = v_BLD + self.bias[None, None]
        else:
            both_BLM, state = conv.full(x_BLD.astype(self.dtype), self.kernel, state, mask_BL, reset_BL)
            gate_BLD, v_BLD = jnp.split(both_BLM + self.bias[None, None], 2, axis=-1)
        f = {"sigmoid": jax.nn.sigmoid, "silu": jax.nn.silu, "none": lambda v: v}[self.activation]
        return f(gate_BLD) * v_BLD, state


Mixer = GatedConv
