"""Sequences cut into blocks for `_blockwise`: where tokens stand, and which blocks can see each other."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import masks

# Documents in which nobody meets: numbers that no document has.
MASKED_QUERY, MASKED_KEY = -(2**31), -(2**31) + 1


class Marks(NamedTuple):
    """Where the tokens of all blocks stand: (n, 1 or B, M) and (m, 1 or B, C); segments None: all see each other."""

    position_q: jax.Array
    position_k: jax.Array
    segment_q: jax.Array | None
    segment_k: jax.Array | None


class Meet(NamedTuple):
    """Which blocks see each other: for each of queries its blocks of keys, then how many they are; and back."""

    keys_nm: jax.Array
    count_n: jax.Array
    queries_mn: jax.Array
    count_m: jax.Array


def size(length: int, block: int) -> int:
    """Blocks of equal length, a multiple of 8, with as little filling at the end as can be."""
    count = -(-length // block)
    return -(-length // (8 * count)) * 8


def cut(a_BLx, size: int, fill):
    """(B, L, ...) -> (n, B, size, ...), the end filled with a value or with "edge", the last one."""
    B, L, *rest = a_BLx.shape
    pad = [(0, 0), (0, -L % size)] + [(0, 0)] * len(rest)
    how = dict(mode="edge") if fill == "edge" else dict(constant_values=fill)
    return jnp.moveaxis(jnp.pad(a_BLx, pad, **how).reshape(B, -1, size, *rest), 1, 0)


def marks(queries, keys, L: int, S: int, M: int, C: int) -> Marks:
    """Positions and documents of tokens, cut into blocks."""
    (pq, sq), (pk, sk) = queries.filled(L), keys.filled(S)
    packed = queries.segment_BL is not None or keys.segment_BL is not None
    pq, pk = cut(pq, M, "edge"), cut(pk, C, "edge")
    if not packed and queries.mask_BL is None and keys.mask_BL is None and S % C == 0:
        return Marks(pq, pk, None, None)
    sq = sq if queries.mask_BL is None else jnp.where(queries.mask_BL, sq, MASKED_QUERY)
    sk = sk if keys.mask_BL is None else jnp.where(keys.mask_BL, sk, MASKED_KEY)
    return Marks(pq, pk, cut(sq, M, MASKED_QUERY), cut(sk, C, MASKED_KEY))


def meet(pattern: masks.Pattern, marks: Marks) -> Meet:
    """Which blocks may see each other, by the least and the largest place and document in each."""
    high = 2**30  # and low - high is no overflow

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
    seen = seen_nmB.any(axis=2)  # all rows go through a block together
    order = lambda seen: jnp.argsort(~seen, axis=1, stable=True).astype(jnp.int32)
    return Meet(order(seen), seen.sum(axis=1), order(seen.T), seen.sum(axis=0))


@functools.lru_cache(maxsize=1024)
def share(pattern: masks.Pattern, L: int, S: int, block: int) -> float:
    """Of all pairs of blocks, those that meet where S real tokens of one document are seen by the last L of them."""
    M, C, before = size(L, block), size(S, block), max(S - L, 0)
    low_n1, low_1m = np.arange(0, L, M)[:, None], np.arange(0, S, C)[None]
    high_n1, high_1m = np.minimum(low_n1 + M, L) - 1, np.minimum(low_1m + C, S) - 1
    return float(np.mean(pattern.may(low_n1 + before, high_n1 + before, low_1m, high_1m, max(M, C))))
