"""The quasi-recurrent neural network."""

from typing import Annotated

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax.mixers._linear import LinearMixer
from seqjax.ops import conv, linear
from seqjax.types import Range


class QRNN(LinearMixer):
    """QRNN: a linear recurrence whose candidate and gates are a causal convolution of the last `conv_width` tokens.

        z, f, o = tanh(Z), sigmoid(F), sigmoid(O),   Z, F, O = W * x + b
        c_t     = f * c_{t-1} + (1 - f) * z
        y_t     = o * c_t

    This is the paper's fo-pooling. Its zoneout and its dense connections are left out. State: the last conv_width - 1
    inputs, (B, conv_width - 1, D), and c, (B, D), float32.

    Bradbury et al. 2016, "Quasi-recurrent neural networks", arXiv:1611.01576.
    """

    conv_width: Annotated[int, Range(least=2, most=256)] = 2

    cuttable = True

    def setup(self):
        W, D = self.conv_width, self.width
        self.filter = self.param("filter", nn.initializers.lecun_normal(in_axis=(0, 1)), (W, D, 3 * D))
        self.bias = self.param("bias", nn.initializers.zeros, (3 * D,))

    @nn.nowrap
    def init_state(self, batch: int):
        zeros = lambda *shape: jnp.zeros((batch, *shape, self.width), jnp.float32)
        return zeros(self.conv_width - 1), zeros()

    def mix(self, x_BLD, state, mask_BL, reset_BL):
        inputs_BRD, c_BD = state
        u_BLM, inputs_BRD = conv.full(x_BLD.astype(self.dtype), self.filter, inputs_BRD, mask_BL, reset_BL)
        # float32, because a decay of 0.999 rounds to 1 in bfloat16.
        z_BLD, f_BLD, o_BLD = jnp.split(u_BLM.astype(jnp.float32) + self.bias[None, None], 3, axis=-1)
        keep_BLD, take_BLD = jax.nn.sigmoid(f_BLD), jax.nn.sigmoid(-f_BLD)
        c_BLD, c_BD = linear.diagonal(keep_BLD, take_BLD * jnp.tanh(z_BLD), c_BD, mask_BL, reset_BL)
        return jax.nn.sigmoid(o_BLD) * c_BLD, (inputs_BRD, c_BD)


Mixer = QRNN
