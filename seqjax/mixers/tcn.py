"""The temporal convolutional network."""

from typing import Annotated

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax import masks
from seqjax.mixers._base import Mixer as _Mixer
from seqjax.ops import conv
from seqjax.types import Dtype, Fraction, Range, Taps


class Convolution(nn.Module):
    """A causal convolution over all features: W x + b. With `weight_norm`, each output has a direction and a length.

        W = g v / |v|,   |v| over the window and the inputs; g starts at |v|

    Salimans and Kingma 2016, "Weight normalization", arXiv:1602.07868.
    """

    width: int
    kernel_size: int
    dilation: int
    weight_norm: bool
    dtype: Dtype

    @nn.compact
    def __call__(self, x_BLD, cache_BRD, mask_BL, reset_BL):
        D = self.width
        kernel_WDD = self.param("kernel", nn.initializers.lecun_normal(), (self.kernel_size, D, D))
        bias_D = self.param("bias", nn.initializers.zeros, (D,))
        if self.weight_norm:
            length_D = jnp.sqrt(jnp.sum(kernel_WDD**2, axis=(0, 1)))
            scale_D = self.param("scale", lambda key: length_D)
            kernel_WDD = kernel_WDD * (scale_D / length_D)[None, None]
        y_BLD, cache_BRD = conv.full(x_BLD, kernel_WDD, cache_BRD, mask_BL, reset_BL, self.dilation)
        return (y_BLD + bias_D[None, None]).astype(self.dtype), cache_BRD


class TCN(_Mixer):
    """TCN: blocks of two dilated causal convolutions with a residual; each block reaches twice as far as the last.

        F_i(x) = drop(relu(conv(drop(relu(conv(x)))))),   both convolutions of width W and dilation 2^i
        x_{i+1} = relu(x_i + F_i(x_i)),   i = 0 ... levels - 1

    W = `kernel_size`. A token sees 1 + 2 (W - 1) (2^levels - 1) tokens. It is a whole network: one layer of a model is
    enough, and takes expansion 0. Convolutions have normalised weights, unless `weight_norm` is False. `dropout` drops
    single features, as in the authors' code. State: the last (W - 1) 2^i inputs of each convolution, two arrays
    (B, (W - 1) 2^i, D) per block, float32.

    Bai et al. 2018, "An empirical evaluation of generic convolutional and recurrent networks for sequence modeling",
    arXiv:1803.01271.
    """

    levels: Annotated[int, Range(least=1, most=16)] = 4
    kernel_size: Taps = 3
    dropout: Fraction = 0.0
    weight_norm: bool = True

    cuttable = True

    def setup(self):
        make = lambda dilation: Convolution(self.width, self.kernel_size, dilation, self.weight_norm, self.dtype)
        self.convolutions = [make(2**i) for i in range(self.levels) for _ in range(2)]
        self.drop = nn.Dropout(self.dropout)

    @nn.nowrap
    def init_state(self, batch: int):
        cache = lambda dilation: jnp.zeros((batch, (self.kernel_size - 1) * dilation, self.width), jnp.float32)
        return tuple((cache(2**i), cache(2**i)) for i in range(self.levels))

    def __call__(self, x_BLD, state=None, *, mask_BL=None, reset_BL=None, deterministic=True):
        self.check(x_BLD, state, mask_BL, reset_BL)
        y_BLD, after = masks.fill(x_BLD, mask_BL).astype(self.dtype), []
        for i, caches in enumerate(self.init_state(len(x_BLD)) if state is None else state):
            h_BLD, new = y_BLD, []
            for convolve, cache_BRD in zip(self.convolutions[2 * i :], caches, strict=False):
                h_BLD, cache_BRD = convolve(h_BLD, cache_BRD, mask_BL, reset_BL)
                h_BLD = self.drop(jax.nn.relu(h_BLD), deterministic=deterministic)
                new.append(cache_BRD)
            y_BLD = jax.nn.relu(y_BLD + h_BLD)
            after.append(tuple(new))
        return masks.fill(y_BLD, mask_BL).astype(x_BLD.dtype), None if state is None else tuple(after)


Mixer = TCN
