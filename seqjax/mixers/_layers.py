"""Flax's Dense and Embed, but for how gradients of their parameters are added up: in float32, whatever the dtype.

Flax casts a parameter before tokens meet it, so that what all tokens want of it is added up in `dtype`: bfloat16 loses
most of 16,384 terms. Here, and wherever a mixer has a vector of its own, parameters meet tokens in float32, and only
the result is cast; products go through `dense.einsum`.
"""

import jax.numpy as jnp
from flax import linen as nn

from seqjax.ops import dense


class Dense(nn.Dense):
    """W x + b, with the parameters and options of `flax.linen.Dense`."""

    @nn.compact
    def __call__(self, x_BX):
        kernel = self.param("kernel", self.kernel_init, (x_BX.shape[-1], self.features))
        rows = "ABCD"[: x_BX.ndim - 1]
        y_BX = dense.einsum(f"{rows}I,IO->{rows}O", x_BX, kernel, self.dtype)
        if not self.use_bias:
            return y_BX
        bias = self.param("bias", self.bias_init, (self.features,))
        return (y_BX + jnp.expand_dims(bias, range(x_BX.ndim - 1))).astype(self.dtype)


class Embed(nn.Embed):
    """A row of a table for each token, with the parameters and options of `flax.linen.Embed`."""

    def __call__(self, tokens_BL):
        return jnp.take(self.embedding, tokens_BL, axis=0).astype(self.dtype)

    def attend(self, x_BLD):
        """The product of each token with all rows."""
        return dense.einsum("BLD,VD->BLV", x_BLD, self.embedding, self.dtype)
