"""Sequences in blocks for `_blockwise`: the positions of the tokens, and which blocks can see each other."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import masks

# Document numbers of masked tokens. No document has them, and they differ, so masked tokens never see each other.
MASKED_QUERY, MASKED_KEY = -(2**31), -(2**31) + 1


class Marks(NamedTuple):
    """Positions and documents of the tokens in blocks: (n, 1 or B, M) for queries, (m, 1 or B, C) for keys.

    Segments are None if all tokens are real and of one document.
    """

    position_q: jax.Array
    position_k: jax.Array
    segment_q: jax.Array | None
    segment_k: jax.Array | None


class Meet(NamedTuple):
    """Which blocks see each other: for each query block its key blocks first, and their number; and vice versa."""

    keys_nm: jax.Array
    count_n: jax.Array
    queries_mn: jax.Array
    count_m: jax.Array


def size(length: int, block: int) -> int:
    """The length of equal blocks, at most `block` rounded up to a multiple of 8, with the least padding at the end."""
    count = -(-length // block)
    return -(-length // (8 * count)) * 8


def cut(a_BLx, size: int, fill):
    """(B, L, ...) -> (n, B, size, ...), padded at the end with a value, or with the last entry if `fill` is "edge"."""
    B, L, *rest = a_BLx.shape
    pad = [(0, 0), (0, -L % size)] + [(0, 0)] * len(rest)
    how = dict(mode="edge") if fill == "edge" else dict(constant_values=fill)
    return jnp.moveaxis(jnp.pad(a_BLx, pad, **how).reshape(B, -1, size, *rest), 1, 0)


def marks(queries, keys, L: int, S: int, M: int, C: int) -> Marks:
    """The positions and documents of queries and keys, in blocks."""
    (pq, sq), (pk, sk) = queries.filled(L), keys.filled(S)
    packed = queries.segment_BL is not None or keys.segment_BL is not None
    pq, pk = cut(pq, M, "edge"), cut(pk, C, "edge")
    if not packed and queries.mask_BL is None and keys.mask_BL is None and S % C == 0:
        return Marks(pq, pk, None, None)
    sq = sq if queries.mask_BL is None else jnp.where(queries.mask_BL, sq, MASKED_QUERY)
    sk = sk if keys.mask_BL is None else jnp.where(keys.mask_BL, sk, MASKED_KEY)
    return Marks(pq, pk, cut(sq, M, MASKED_QUERY), cut(sk, C, MASKED_KEY))


def meet(pattern: masks.Pattern, marks: Marks) -> Meet:
    """Which blocks may see each other, from the smallest and largest position and document in each block."""
    high = 2**30  # low - high must not overflow

    def extremes(a, segment, masked):
        real = True if segment is None else segment != masked
        return jnp.min(jnp.where(real, a, high), axis=2), jnp.max(jnp.where(real, a, -1), axis=2)

    across = lambda low_nB, high_nB: (low_nB[:, None], high_nB[:, None])
    down = lambda low_mB, high_mB: (low_mB[None], high_mB[None])
    place_q = across(*extremes(marks.position_q, marks.segment_q, MASKED_QUERY))
    place_k = down(*extremes(marks.position_k, marks.segment_k, MASKED_KEY))
    seen_nmB = pattern.may(*place_q, *place_k, max(marks.position_q.shape[2], marks.position_k.shape[2]))
    if marks.segment_q is not None:
        first_q, last_q = across(*extremes(marks.segment_q, marks.segment_q, MASKED_QUERY))
        first_k, last_k = down(*extremes(marks.segment_k, marks.segment_k, MASKED_KEY))
        seen_nmB &= (first_q <= last_k) & (last_q >= first_k)
    seen = seen_nmB.any(axis=2)  # all rows of a block are computed together
    order = lambda seen: jnp.argsort(~seen, axis=1, stable=True).astype(jnp.int32)
    return Meet(order(seen), seen.sum(axis=1), order(seen.T), seen.sum(axis=0))


@functools.lru_cache(maxsize=1024)
def share(pattern: masks.Pattern, L: int, S: int, block: int) -> float:
    """The share of block pairs that see each other, if the last L of S real tokens of one document are the queries."""
    M, C, before = size(L, block), size(S, block), max(S - L, 0)
    low_n1, low_1m = np.arange(0, L, M)[:, None], np.arange(0, S, C)[None]
    high_n1, high_1m = np.minimum(low_n1 + M, L) - 1, np.minimum(low_1m + C, S) - 1
    return float(np.mean(pattern.may(low_n1 + before, high_n1 + before, low_1m, high_1m, max(M, C))))
