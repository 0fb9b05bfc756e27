"""Attention block by block: only the scores of one query block and one key block exist at a time, also backwards.

Softmax continues from block to block (Milakov and Gimelshein 2018, arXiv:1805.02867). The backward pass computes the
scores a second time, from the totals of softmax (Dao et al. 2022, arXiv:2205.14135). Blocks that cannot see each other
are skipped. The block axis is first, then rows: (n, B, G, M, K) holds n blocks of M queries, where M is the R heads
that share the keys of a group, times the tokens of a block. Scores are (B, G, C, M), keys by queries, so that no loop
has to transpose them.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import masks
from seqjax.ops import _blocks
from seqjax.ops.positions import Relative

FLOOR = -1e30  # the score of a key that a query may not see; finite, so that inf - inf never happens

_at = functools.partial(jax.lax.dynamic_index_in_dim, axis=0, keepdims=False)


class Rules(NamedTuple):
    """The static options, known when the program is compiled."""

    pattern: masks.Pattern
    soft_cap: float | None
    share: float  # the part of all block pairs that see each other if all tokens are real and of one document


class Extras(NamedTuple):
    """The terms that heads add to scores. Fields (G, M) repeat the number of a head for each of its queries."""

    sinks_GM: jax.Array | None
    slope_GM: jax.Array | None  # of a bias by distance
    table_GRN: jax.Array | None


def attend(q_BLHK, k_BSGK, v_BSGK, queries, keys, sinks_H, relative: Relative, rules: Rules, block: int, run=None):
    """Attention whose memory grows as L + S: see `seqjax.ops.attention.attend`. q is scaled, masked tokens are zero.

    If rows or heads are sharded, devices exchange nothing inside the loops. `run`: the function that loops over the
    blocks, if each device holds only some of them: `seqjax.ops._ring_attention`.
    """
    B, L, H, K = q_BLHK.shape
    S, G = k_BSGK.shape[1:3]
    R, M, C = H // G, _blocks.size(L, block), _blocks.size(S, block)
    marks = _blocks.marks(queries, keys, L, S, M, C)
    q = jnp.moveaxis(_blocks.cut(q_BLHK, M, 0).reshape(-1, B, M, G, R, K), 2, 4).reshape(-1, B, G, R * M, K)
    k, v = (jnp.swapaxes(_blocks.cut(a, C, 0), 2, 3) for a in (k_BSGK, v_BSGK))
    each = lambda x_H: None if x_H is None else jnp.repeat(x_H.astype(jnp.float32).reshape(G, R), M, axis=1)
    table = relative.table_HN
    table = None if table is None else table.astype(jnp.float32).reshape(G, R, -1)
    extras = Extras(each(sinks_H), each(relative.slope_H), table)
    y = (run or _alone)(rules, q, k, v, extras, marks).reshape(-1, B, G, R, M, K)
    return jnp.moveaxis(y, (1, 4), (0, 2)).reshape(B, -1, H, K)[:, :L]


def by_head(marks: _blocks.Marks, q) -> _blocks.Marks:
    """Marks per token -> marks per query: one for each head of a group. Marks of keys stay the same."""
    R = q.shape[3] // marks.position_q.shape[2]
    return _blocks.Marks(*(a if a is None or i % 2 else jnp.tile(a, R) for i, a in enumerate(marks)))


def _alone(rules, q, k, v, extras, marks):
    return _run(rules, q, k, v, extras, by_head(marks, q), _blocks.meet(rules.pattern, marks))


def _loop(rules, order, count, body, carry):
    """body(j, carry) for the first `count` numbers j of `order`, in a scope named after the expected count."""
    if len(order) == 1:
        return body(0, carry)
    with jax.named_scope(f"times={rules.share * len(order):g}"):
        return jax.lax.fori_loop(0, count, lambda i, carry: body(order[i], carry), carry)


# The first operand gives the leading axis of the result; other orders would transpose scores in the loop.
_product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


def _scores(rules, extras, q_BGMK, k_BGCK, pq_BM, pk_BC, sq_BM, sk_BC):
    """The scores (B, G, C, M), FLOOR where a query may not see the key, and the slope of the soft cap."""
    s_BGCM, slope = _product("BGCK,BGMK->BGCM", k_BGCK, q_BGMK), None
    back_BCM = pq_BM[:, None, :] - pk_BC[:, :, None]
    if extras.slope_GM is not None:
        s_BGCM -= extras.slope_GM[None, :, None] * jnp.abs(back_BCM)[:, None].astype(jnp.float32)
    if extras.table_GRN is not None:
        table_GX = extras.table_GRN.reshape(len(extras.table_GRN), -1)
        s_BGCM += jnp.swapaxes(jnp.take(table_GX, _places(rules, extras, back_BCM), axis=1), 0, 1)
    if rules.soft_cap is not None:
        t_BGCM = jnp.tanh(s_BGCM / rules.soft_cap)
        s_BGCM, slope = rules.soft_cap * t_BGCM, 1 - t_BGCM * t_BGCM
    allowed = rules.pattern.sees(pq_BM[:, None, :], pk_BC[:, :, None])
    if sq_BM is not None:
        allowed &= sq_BM[:, None, :] == sk_BC[:, :, None]
    return s_BGCM if allowed is True else jnp.where(allowed[:, None], s_BGCM, FLOOR), slope


def _places(rules, extras, back_BCM):
    """The index of each pair's bias in the joined tables of the heads of a group."""
    _, R, N = extras.table_GRN.shape
    place_BCM = Relative(table_HN=extras.table_GRN[0]).place(back_BCM, rules.pattern.causal)
    return place_BCM + jnp.repeat(N * jnp.arange(R), back_BCM.shape[2] // R)[None, None]


def _pick(marks, i, j):
    """The marks of one block of queries and one of keys."""
    return (None if a is None else _at(a, index) for a, index in zip(marks, (i, j, i, j), strict=True))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _run(rules, q, k, v, extras, marks, meet):
    return _forward(rules, q, k, v, extras, marks, meet)[0]


def _forward(rules, q, k, v, extras, marks, meet):
    vT, (n, B, G, M, K) = jnp.swapaxes(v, 3, 4), q.shape
    carry = fresh(extras, (B, G, M), K)

    def row(_, slices):
        return None, finished(_row(rules, k, vT, extras, marks, carry, *slices), q.dtype)

    _, (yT, sums) = jax.lax.scan(row, None, (jnp.arange(n), q, meet.keys_nm, meet.count_n))
    y = jnp.swapaxes(yT, 3, 4)
    return y, (q, k, v, extras, marks, meet, y, sums)


def fresh(extras, shape, K):
    """Softmax before the first key, for queries of shape (..., G, M): weighted values, peak and total of weights."""
    # The peak starts well above FLOOR: keys that may not be seen have weight zero even if a query sees nothing.
    peak, total = (FLOOR / 2, 0.0) if extras.sinks_GM is None else (extras.sinks_GM, 1.0)
    whole = lambda x: jnp.broadcast_to(jnp.asarray(x, jnp.float32), shape)
    return jnp.zeros((*shape[:-1], K, shape[-1]), jnp.float32), whole(peak), whole(total)


def _row(rules, k, vT, extras, marks, carry, i, q_BGMK, order_m, count):
    """Continues the softmax of one query block from `carry`, over `count` key blocks."""

    def block(j, carry):
        y_BGKM, peak_BGM, total_BGM = carry
        s_BGCM, _ = _scores(rules, extras, q_BGMK, _at(k, j), *_pick(marks, i, j))
        new_BGM = jnp.maximum(peak_BGM, jnp.max(s_BGCM, axis=2))
        p_BGCM, keep_BGM = jnp.exp(s_BGCM - new_BGM[:, :, None]), jnp.exp(peak_BGM - new_BGM)
        y_BGKM = y_BGKM * keep_BGM[:, :, None] + _product("BGKC,BGCM->BGKM", _at(vT, j), p_BGCM.astype(q_BGMK.dtype))
        return y_BGKM, new_BGM, total_BGM * keep_BGM + jnp.sum(p_BGCM, axis=2)

    return _loop(rules, order_m, count, block, carry)


def rows(rules, q, k, v, extras, marks, meet, carry):
    """Continues the softmax of all query blocks from `carry`, over the key blocks here that they see."""
    vT = jnp.swapaxes(v, 3, 4)
    row = lambda _, slices: (None, _row(rules, k, vT, extras, marks, *slices))
    return jax.lax.scan(row, None, (carry, jnp.arange(len(q)), q, meet.keys_nm, meet.count_n))[1]


def finished(carry, dtype):
    """The result of softmax after the last key: the mean of values, (..., K, M), and the logarithm of the total."""
    y_BGKM, peak_BGM, total_BGM = carry
    some_BGM = total_BGM > 0
    total_BGM = jnp.where(some_BGM, total_BGM, 1.0)
    y_BGKM = (y_BGKM / total_BGM[..., None, :]).astype(dtype)
    return y_BGKM, jnp.where(some_BGM, peak_BGM + jnp.log(total_BGM), 0.0)


def _backward(rules, residuals, dy):
    q, k, v, extras, marks, meet, y, sums = residuals
    inner = along(y, dy)
    carry, (dk, dv) = columns(rules, q, k, v, extras, marks, meet, sums, inner, dy, unpulled(extras, q))
    dq, dextras = pulled(carry, extras, q.dtype, sums, inner)
    return dq, dk, dv, dextras, None, None


def along(y, dy):
    """dy . y per query, which the gradient of softmax subtracts."""
    return jnp.sum(dy.astype(jnp.float32) * y.astype(jnp.float32), axis=-1)


def unpulled(extras, q):
    """The gradients of queries and extras before the first block: zeros. Extras have one sum per row, so that devices
    with different rows add them up only after the loops."""
    n, B, G, M, K = q.shape
    zeros = jax.tree.map(lambda a: jnp.zeros((B, *a.shape), jnp.float32), extras._replace(sinks_GM=None))
    return jnp.zeros((n, B, G, K, M), jnp.float32), zeros


def columns(rules, q, k, v, extras, marks, meet, sums, inner, dy, carry):
    """Adds the gradients of all block pairs that see each other: -> `carry` (of queries and extras), and dk, dv."""

    def column(carry, slices):
        j, k_BGCK, v_BGCK, kT_BGKC, order_n, count = slices

        def block(i, carry):
            dqT, dextras, dk_BGCK, dv_BGCK = carry
            q_BGMK, dy_BGMK, here = _at(q, i), _at(dy, i), list(_pick(marks, i, j))
            s_BGCM, slope = _scores(rules, extras, q_BGMK, k_BGCK, *here)
            p_BGCM = jnp.exp(s_BGCM - _at(sums, i)[:, :, None])
            dv_BGCK += _product("BGCM,BGMK->BGCK", p_BGCM.astype(q.dtype), dy_BGMK)
            ds_BGCM = p_BGCM * (_product("BGCK,BGMK->BGCM", v_BGCK, dy_BGMK) - _at(inner, i)[:, :, None])
            ds_BGCM = ds_BGCM if slope is None else ds_BGCM * slope
            dextras = _pull_extras(rules, extras, dextras, ds_BGCM, *here[:2])
            ds_BGCM = ds_BGCM.astype(q.dtype)
            dk_BGCK += _product("BGCM,BGMK->BGCK", ds_BGCM, q_BGMK)
            dq_BGKM = _at(dqT, i) + _product("BGKC,BGCM->BGKM", kT_BGKC, ds_BGCM)
            return jax.lax.dynamic_update_index_in_dim(dqT, dq_BGKM, i, 0), dextras, dk_BGCK, dv_BGCK

        zeros = jnp.zeros(k_BGCK.shape, jnp.float32)
        *carry, dk_BGCK, dv_BGCK = _loop(rules, order_n, count, block, (*carry, zeros, zeros))
        return tuple(carry), (dk_BGCK.astype(q.dtype), dv_BGCK.astype(q.dtype))

    slices = (jnp.arange(len(k)), k, v, jnp.swapaxes(k, 3, 4), meet.queries_mn, meet.count_m)
    return jax.lax.scan(column, carry, slices)


def pulled(carry, extras, dtype, sums, inner):
    """The gradients of queries and extras after the last block."""
    dqT, dextras = carry
    dextras = jax.tree.map(lambda a: a.sum(axis=0), dextras)
    if extras.sinks_GM is not None:
        sinks = -jnp.sum(jnp.exp(extras.sinks_GM[None, None] - sums) * inner, axis=(0, 1))
        dextras = dextras._replace(sinks_GM=sinks)
    return jnp.swapaxes(dqT, 3, 4).astype(dtype), dextras


def _pull_extras(rules, extras, sums, ds_BGCM, pq_BM, pk_BC):
    """Adds the gradients of slopes and tables from one block to `sums`, row by row."""
    back_BCM = pq_BM[:, None, :] - pk_BC[:, :, None]
    if extras.slope_GM is not None:
        here = jnp.sum(ds_BGCM * jnp.abs(back_BCM)[:, None].astype(jnp.float32), axis=2)
        sums = sums._replace(slope_GM=sums.slope_GM - here)
    if extras.table_GRN is not None:
        place_BCM, (B, G) = _places(rules, extras, back_BCM), ds_BGCM.shape[:2]
        flat = lambda a: a.reshape(*a.shape[:-2], -1)
        add = lambda old_X, place, ds: old_X.at[place].add(ds)
        add = jax.vmap(jax.vmap(add, (0, None, 0)))
        places = jnp.broadcast_to(flat(place_BCM), (B, flat(place_BCM).shape[1]))
        table = add(sums.table_GRN.reshape(B, G, -1), places, flat(ds_BGCM))
        sums = sums._replace(table_GRN=table.reshape(sums.table_GRN.shape))
    return sums


_run.defvjp(_forward, _backward)
