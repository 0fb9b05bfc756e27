"""Losses per element. The task applies the mask and takes the mean."""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from seqjax import masks
from seqjax.ops import dense

LARGE = 2**24  # more logits than these (64 MB) are never one array: chunks are faster then, too
CHUNK = 2**22  # how many of them are made at a time


def cross_entropy(logits_XC, target_X):
    """-log softmax(logits)[target] in nats: (..., C), int (...) -> float32 (...).

    Targets outside 0 ... C - 1 give wrong numbers without an error: the data source is checked on the host instead.
    """
    logits_XC = logits_XC.astype(jnp.float32)
    picked_X = jnp.take_along_axis(logits_XC, target_X[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits_XC, axis=-1) - picked_X


def classification(logits_BC, target_B, *, label_smoothing: float = 0.0, focal_gamma: float = 0.0):
    """Cross-entropy with smoothed targets and a focal factor, in nats: (B, C), int (B,) -> float32 (B,).

        loss_b = (1 - p_by)^gamma sum_c q_bc (-log p_bc),   y = target_b
        q = (1 - smoothing) onehot(y) + smoothing / C

    Label smoothing: Szegedy et al. 2016, arXiv:1512.00567; focal loss: Lin et al. 2017, arXiv:1708.02002.
    """
    log_p_BC = jax.nn.log_softmax(logits_BC.astype(jnp.float32), axis=-1)
    log_p_B = jnp.take_along_axis(log_p_BC, target_B[:, None], axis=-1)[:, 0]
    loss_B = -(1 - label_smoothing) * log_p_B - label_smoothing * jnp.mean(log_p_BC, axis=-1)
    if not focal_gamma:
        return loss_B
    # The slope of 0 ** gamma is infinite for gamma < 1: p = 1 has the loss 0 in any case.
    rest_B = jnp.maximum(-jnp.expm1(log_p_B), jnp.finfo(jnp.float32).tiny)
    return rest_B**focal_gamma * loss_B


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["x_BLD", "weight", "bias_V", "mask_BL"],
    meta_fields=["equation", "dtype"],
)
@dataclasses.dataclass(frozen=True)
class Logits:
    """The logits W x + b of many tokens and a large vocabulary, as what they are made of.

    `per_token` makes them in chunks; where an array is needed (`jnp.asarray`), they become one. Float32, and zero where
    masked. `equation`: of x and W, "BLD,DV->BLV" or "BLD,VD->BLV". `dtype`: of the product.
    """

    x_BLD: jax.Array
    weight: jax.Array
    bias_V: jax.Array | None
    mask_BL: jax.Array | None
    equation: str
    dtype: str

    @property
    def shape(self) -> tuple[int, int, int]:
        return (*self.x_BLD.shape[:2], self.weight.shape[self.equation.split(",")[1].index("V")])

    def __jax_array__(self):
        logits_BLV = dense.einsum(self.equation, self.x_BLD, self.weight, self.dtype)
        if self.bias_V is not None:
            logits_BLV = (logits_BLV + self.bias_V[None, None]).astype(self.dtype)
        return masks.fill(logits_BLV.astype(jnp.float32), self.mask_BL)


def logits(x_BLD, weight, bias_V, mask_BL, equation: str, dtype) -> jax.Array | Logits:
    """The logits of each token: an array (B, L, V), or `Logits` if that had more than `LARGE` elements."""
    found = Logits(x_BLD, weight, bias_V, mask_BL, equation, dtype)
    return found if math.prod(found.shape) > LARGE else found.__jax_array__()


def per_token(f: Callable, logits, *of_tokens):
    """f(logits (B, L, V), *of_tokens (B, L)) -> arrays (B, L, ...), for an f that reads each token by itself.

    Of `Logits`, f reads some tokens of all rows at a time, and the backward pass makes their logits again: neither pass
    holds an array (B, L, V).
    """
    if not isinstance(logits, Logits):
        return f(logits, *of_tokens)
    B, L, V = logits.shape
    size = min(max(CHUNK // (B * V), 1), L)
    count = -(-L // size)

    def chunks(a):
        a = jnp.pad(a, ((0, 0), (0, count * size - L), *((0, 0),) * (a.ndim - 2)))
        return jnp.moveaxis(a.reshape(B, count, size, *a.shape[2:]), 1, 0)

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def one(x_BKD, mask_BK, *of_chunk):
        return f(jnp.asarray(dataclasses.replace(logits, x_BLD=x_BKD, mask_BL=mask_BK)), *of_chunk)

    found = jax.lax.map(lambda given: one(*given), jax.tree.map(chunks, (logits.x_BLD, logits.mask_BL, *of_tokens)))
    join = lambda a: jnp.moveaxis(a, 0, 1).reshape(B, count * size, *a.shape[3:])[:, :L]
    return jax.tree.map(join, found)
