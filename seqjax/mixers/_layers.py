"""Flax's Dense and Embed, with one difference: they sum the gradients of their parameters in float32 for every dtype.

Flax casts a parameter to `dtype` first, so the gradients of all tokens are summed in `dtype`: in bfloat16 a sum of
16,384 terms loses most of them. Here, and for every parameter vector in a mixer, parameters stay float32 and only the
result is cast. Products go through `dense.einsum`.
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


def read_and_weigh(module, read, v_BLHV, S_BHKV):
    """read(v, S): y and the last state. Its weights (B, H, L, L) become intermediates, if the caller collects them."""
    if module.is_mutable_collection("intermediates"):
        # With a unit vector as the value of each token, the output is the weights.
        B, L, H, _ = v_BLHV.shape
        own_BLHL = jnp.broadcast_to(jnp.eye(L)[None, :, None], (B, L, H, L))
        weight_BLHL, _ = read(own_BLHL, jnp.zeros((*S_BHKV.shape[:3], L), S_BHKV.dtype))
        module.sow("intermediates", "weights", jnp.swapaxes(weight_BLHL, 1, 2).astype(jnp.float32))
    return read(v_BLHV, S_BHKV)
