"""Attention block by block: the scores of one block of queries and one of keys exist at a time, forwards and back.

Softmax goes on from block to block (Milakov and Gimelshein 2018, arXiv:1805.02867); the way back computes the scores a
second time from what softmax summed to (Dao et al. 2022, arXiv:2205.14135). Blocks that cannot see each other are
skipped. Blocks come first, then rows: (n, B, G, M, K) are n blocks of M queries, which are the R heads that share the
keys of group G, times the tokens of a block. Scores lie as (B, G, C, M), keys by queries: nothing is turned in a loop.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

FLOOR = -1e30  # the score of what may not be seen; finite, so that inf - inf never happens
MASKED_QUERY, MASKED_KEY = -1, -2  # documents in which nobody meets

_at = functools.partial(jax.lax.dynamic_index_in_dim, axis=0, keepdims=False)


class Rules(NamedTuple):
    """What is known when the program is made."""

    causal: bool
    window: int | None
    soft_cap: float | None


class Marks(NamedTuple):
    """Where the tokens of all blocks stand: (n, 1 or B, M) and (m, 1 or B, C); segments None: all see each other."""

    position_q: jax.Array
    position_k: jax.Array
    segment_q: jax.Array | None
    segment_k: jax.Array | None


def attend(q_BLHK, k_BSGK, v_BSGK, queries, keys, sinks_H, rules: Rules, block: int):
    """Attention whose memory grows as L + S: see `seqjax.ops.attention.attend`. q is scaled, masked tokens are zero.

    Under sharding of rows or heads nothing is exchanged inside the loops.
    """
    B, L, H, K = q_BLHK.shape
    S, G = k_BSGK.shape[1:3]
    R, M, C = H // G, _size(L, block), _size(S, block)
    (pq, sq), (pk, sk) = queries.filled(L), keys.filled(S)
    packed = queries.segment_BL is not None or keys.segment_BL is not None
    if packed or queries.mask_BL is not None or keys.mask_BL is not None or S % C:
        sq = sq if queries.mask_BL is None else jnp.where(queries.mask_BL, sq, MASKED_QUERY)
        sk = sk if keys.mask_BL is None else jnp.where(keys.mask_BL, sk, MASKED_KEY)
        sq, sk = _blocks(sq, M, MASKED_QUERY), _blocks(sk, C, MASKED_KEY)
    else:
        sq = sk = None
    pq, pk = _blocks(pq, M, "edge"), _blocks(pk, C, "edge")
    ranges = _ranges(rules, Marks(pq, pk, sq, sk))
    marks = Marks(*(None if a is None else a if i % 2 else jnp.tile(a, R) for i, a in enumerate((pq, pk, sq, sk))))
    q = jnp.moveaxis(_blocks(q_BLHK, M, 0).reshape(-1, B, M, G, R, K), 2, 4).reshape(-1, B, G, R * M, K)
    k, v = (jnp.swapaxes(_blocks(a, C, 0), 2, 3) for a in (k_BSGK, v_BSGK))
    sinks_GM = None if sinks_H is None else jnp.repeat(sinks_H.astype(jnp.float32).reshape(G, R), M, axis=1)
    y = _run(rules, q, k, v, sinks_GM, marks, ranges).reshape(-1, B, G, R, M, K)
    return jnp.moveaxis(y, (1, 4), (0, 2)).reshape(B, -1, H, K)[:, :L]


def _size(length: int, block: int) -> int:
    """Blocks of equal length, a multiple of 8, with as little filling at the end as can be."""
    count = -(-length // block)
    return -(-length // (8 * count)) * 8


def _blocks(a_BLx, size: int, fill):
    """(B, L, ...) -> (n, B, size, ...), the end filled with a value or with "edge", the last one."""
    B, L, *rest = a_BLx.shape
    pad = [(0, 0), (0, -L % size)] + [(0, 0)] * len(rest)
    how = dict(mode="edge") if fill == "edge" else dict(constant_values=fill)
    return jnp.moveaxis(jnp.pad(a_BLx, pad, **how).reshape(B, -1, size, *rest), 1, 0)


def _ranges(rules, marks):
    """For each block of queries the first key block to see and the one after the last; for keys, of queries."""
    high = jnp.iinfo(jnp.int32).max
    n, m = len(marks.position_q), len(marks.position_k)

    def extremes(a, segment, masked):
        real = True if segment is None else segment != masked
        return jnp.min(jnp.where(real, a, high), axis=2), jnp.max(jnp.where(real, a, -1), axis=2)

    meet = lambda a_nB, b_mB, holds: holds(a_nB[:, None], b_mB[None])
    low_q, high_q = extremes(marks.position_q, marks.segment_q, MASKED_QUERY)
    low_k, high_k = extremes(marks.position_k, marks.segment_k, MASKED_KEY)
    sight_nmB = jnp.ones((n, m, 1), bool)
    if rules.causal:
        sight_nmB &= meet(high_q, low_k, jnp.greater_equal)
    if rules.window is not None:
        sight_nmB &= meet(low_q, high_k, lambda q, k: q - k < rules.window)
    if marks.segment_q is not None:
        first_q, last_q = extremes(marks.segment_q, marks.segment_q, MASKED_QUERY)
        first_k, last_k = extremes(marks.segment_k, marks.segment_k, MASKED_KEY)
        sight_nmB &= meet(first_q, last_k, jnp.less_equal) & meet(last_q, first_k, jnp.greater_equal)
    sight = sight_nmB.any(axis=2)  # all rows go through a block together

    def ends(sight):
        count = sight.shape[1]
        return jnp.argmax(sight, axis=1), jnp.where(sight.any(axis=1), count - jnp.argmax(sight[:, ::-1], axis=1), 0)

    return (*ends(sight), *ends(sight.T))


def _loop(first, end, body, carry, count: int):
    """body(j, carry) for j from first to end, of `count` blocks."""
    return body(0, carry) if count == 1 else jax.lax.fori_loop(first, end, body, carry)


# The first operand gives the leading axis of the result; other orders would turn scores in the loop.
_product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


def _scores(rules, q_BGMK, k_BGCK, pq_BM, pk_BC, sq_BM, sk_BC):
    """(B, G, C, M), and the slope of the soft cap; FLOOR where a query may not look."""
    s_BGCM, slope = _product("BGCK,BGMK->BGCM", k_BGCK, q_BGMK), None
    if rules.soft_cap is not None:
        t_BGCM = jnp.tanh(s_BGCM / rules.soft_cap)
        s_BGCM, slope = rules.soft_cap * t_BGCM, 1 - t_BGCM * t_BGCM
    if not rules.causal and sq_BM is None:
        return s_BGCM, slope
    allowed = True
    if rules.causal:
        allowed = pk_BC[:, :, None] <= pq_BM[:, None, :]
    if rules.window is not None:
        allowed &= pq_BM[:, None, :] - pk_BC[:, :, None] < rules.window
    if sq_BM is not None:
        allowed &= sq_BM[:, None, :] == sk_BC[:, :, None]
    return jnp.where(allowed[:, None], s_BGCM, FLOOR), slope


def _pick(marks, i, j):
    """The marks of one block of queries and one of keys."""
    return (None if a is None else _at(a, index) for a, index in zip(marks, (i, j, i, j), strict=True))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _run(rules, q, k, v, sinks_GM, marks, ranges):
    return _forward(rules, q, k, v, sinks_GM, marks, ranges)[0]


def _forward(rules, q, k, v, sinks_GM, marks, ranges):
    first_n, end_n, _, _ = ranges
    n, B, G, M, K = q.shape
    vT = jnp.swapaxes(v, 3, 4)

    def row(_, slices):
        i, q_BGMK, first, end = slices

        def block(j, carry):
            y_BGKM, peak_BGM, total_BGM = carry
            s_BGCM, _ = _scores(rules, q_BGMK, _at(k, j), *_pick(marks, i, j))
            new_BGM = jnp.maximum(peak_BGM, jnp.max(s_BGCM, axis=2))
            p_BGCM, keep_BGM = jnp.exp(s_BGCM - new_BGM[:, :, None]), jnp.exp(peak_BGM - new_BGM)
            y_BGKM = y_BGKM * keep_BGM[:, :, None] + _product("BGKC,BGCM->BGKM", _at(vT, j), p_BGCM.astype(q.dtype))
            return y_BGKM, new_BGM, total_BGM * keep_BGM + jnp.sum(p_BGCM, axis=2)

        # A peak well above the floor: what may not be seen has weight zero even where there is nothing else.
        peak, total = (FLOOR / 2, 0.0) if sinks_GM is None else (sinks_GM[None], 1.0)
        whole = lambda x: jnp.broadcast_to(jnp.asarray(x, jnp.float32), (B, G, M))
        carry = jnp.zeros((B, G, K, M), jnp.float32), whole(peak), whole(total)
        y_BGKM, peak_BGM, total_BGM = _loop(first, end, block, carry, len(k))
        some_BGM = total_BGM > 0
        total_BGM = jnp.where(some_BGM, total_BGM, 1.0)
        y_BGKM = (y_BGKM / total_BGM[:, :, None]).astype(q.dtype)
        return None, (y_BGKM, jnp.where(some_BGM, peak_BGM + jnp.log(total_BGM), 0.0))

    _, (yT, sums) = jax.lax.scan(row, None, (jnp.arange(n), q, first_n, end_n))
    y = jnp.swapaxes(yT, 3, 4)
    return y, (q, k, v, sinks_GM, marks, ranges, y, sums)


def _backward(rules, residuals, dy):
    q, k, v, sinks_GM, marks, ranges, y, sums = residuals
    _, _, first_m, end_m = ranges
    inner = jnp.sum(dy.astype(jnp.float32) * y.astype(jnp.float32), axis=-1)

    def column(dqT, slices):
        j, k_BGCK, v_BGCK, kT_BGKC, first, end = slices

        def block(i, carry):
            dqT, dk_BGCK, dv_BGCK = carry
            q_BGMK, dy_BGMK = _at(q, i), _at(dy, i)
            s_BGCM, slope = _scores(rules, q_BGMK, k_BGCK, *_pick(marks, i, j))
            p_BGCM = jnp.exp(s_BGCM - _at(sums, i)[:, :, None])
            dv_BGCK += _product("BGCM,BGMK->BGCK", p_BGCM.astype(q.dtype), dy_BGMK)
            ds_BGCM = p_BGCM * (_product("BGCK,BGMK->BGCM", v_BGCK, dy_BGMK) - _at(inner, i)[:, :, None])
            ds_BGCM = (ds_BGCM if slope is None else ds_BGCM * slope).astype(q.dtype)
            dk_BGCK += _product("BGCM,BGMK->BGCK", ds_BGCM, q_BGMK)
            dq_BGKM = _at(dqT, i) + _product("BGKC,BGCM->BGKM", kT_BGKC, ds_BGCM)
            return jax.lax.dynamic_update_index_in_dim(dqT, dq_BGKM, i, 0), dk_BGCK, dv_BGCK

        zeros = jnp.zeros(k_BGCK.shape, jnp.float32)
        dqT, *grads = _loop(first, end, block, (dqT, zeros, zeros), len(q))
        return dqT, [g.astype(q.dtype) for g in grads]

    n, B, G, M, K = q.shape
    slices = (jnp.arange(len(k)), k, v, jnp.swapaxes(k, 3, 4), first_m, end_m)
    dqT, (dk, dv) = jax.lax.scan(column, jnp.zeros((n, B, G, K, M), jnp.float32), slices)
    dsinks_GM = None
    if sinks_GM is not None:
        dsinks_GM = -jnp.sum(jnp.exp(sinks_GM[None, None] - sums) * inner, axis=(0, 1))
    return jnp.swapaxes(dqT, 3, 4).astype(q.dtype), dk, dv, dsinks_GM, None, None


_run.defvjp(_forward, _backward)
