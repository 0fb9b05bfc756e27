"""Pooling of a sequence to one vector: (B, L, D) -> (B, D). Masked tokens do not count; an empty row gives zeros."""

import jax.numpy as jnp

from seqjax import masks
from seqjax.ops import weights


def mean(x_BLD, mask_BL):
    """The mean over real tokens, in float32."""
    total_BD = jnp.sum(masks.fill(x_BLD, mask_BL).astype(jnp.float32), axis=1)
    count_B1 = jnp.sum(mask_BL, axis=1, dtype=jnp.float32)[:, None]
    return (total_BD / jnp.maximum(count_B1, 1.0)).astype(x_BLD.dtype)


def last(x_BLD, mask_BL):
    """The last real token."""
    L = mask_BL.shape[1]
    index_B = jnp.max(jnp.where(mask_BL, jnp.arange(L)[None, :], -1), axis=1)
    x_BD = jnp.take_along_axis(masks.fill(x_BLD, mask_BL), jnp.maximum(index_B, 0)[:, None, None], axis=1)[:, 0]
    return jnp.where(index_B[:, None] >= 0, x_BD, 0)


def maximum(x_BLD, mask_BL):
    """The largest value of each feature over real tokens."""
    lowest = jnp.asarray(jnp.finfo(x_BLD.dtype).min, x_BLD.dtype)
    x_BLD = masks.fill(x_BLD, mask_BL, lowest)
    # Not jnp.max: its gradient compares x with the maximum, which XLA may compute again with other rounding.
    place_B1D = jnp.argmax(x_BLD, axis=1, keepdims=True)
    x_BD = jnp.take_along_axis(x_BLD, place_B1D, axis=1)[:, 0]
    return jnp.where(jnp.any(mask_BL, axis=1)[:, None], x_BD, 0)


def attention(x_BLD, score_BL, mask_BL, kind: str = "softmax"):
    """The sum weighted by the scores of real tokens, in float32; `kind` is a function of `seqjax.ops.weights`."""
    weight_BL = getattr(weights, kind)(score_BL, mask_BL)
    x_BD = jnp.einsum("BL,BLD->BD", weight_BL, masks.fill(x_BLD, mask_BL).astype(jnp.float32))
    return x_BD.astype(x_BLD.dtype)
