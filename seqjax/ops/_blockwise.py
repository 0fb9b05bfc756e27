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

from seqjax import masks
from seqjax.ops import _blocks
from seqjax.ops.positions import Relative

FLOOR = -1e30  # the score of what may not be seen; finite, so that inf - inf never happens

_at = functools.partial(jax.lax.dynamic_index_in_dim, axis=0, keepdims=False)


class Rules(NamedTuple):
    """What is known when the program is made."""

    sight: masks.Sight
    soft_cap: float | None


class Extras(NamedTuple):
    """What heads add to scores, per query of a block where it is (G, M)."""

    sinks_GM: jax.Array | None
    slope_GM: jax.Array | None  # of a bias by distance
    table_GRN: jax.Array | None


def attend(q_BLHK, k_BSGK, v_BSGK, queries, keys, sinks_H, relative: Relative, rules: Rules, block: int):
    """Attention whose memory grows as L + S: see `seqjax.ops.attention.attend`. q is scaled, masked tokens are zero.

    Under sharding of rows or heads nothing is exchanged inside the loops.
    """
    B, L, H, K = q_BLHK.shape
    S, G = k_BSGK.shape[1:3]
    R, M, C = H // G, _blocks.size(L, block), _blocks.size(S, block)
    marks = _blocks.marks(queries, keys, L, S, M, C)
    meet = _blocks.meet(rules.sight, marks)
    turned = [a if a is None or i % 2 else jnp.tile(a, R) for i, a in enumerate(marks)]
    q = jnp.moveaxis(_blocks.cut(q_BLHK, M, 0).reshape(-1, B, M, G, R, K), 2, 4).reshape(-1, B, G, R * M, K)
    k, v = (jnp.swapaxes(_blocks.cut(a, C, 0), 2, 3) for a in (k_BSGK, v_BSGK))
    each = lambda x_H: None if x_H is None else jnp.repeat(x_H.astype(jnp.float32).reshape(G, R), M, axis=1)
    table = relative.table_HN
    table = None if table is None else table.astype(jnp.float32).reshape(G, R, -1)
    extras = Extras(each(sinks_H), each(relative.slope_H), table)
    y = _run(rules, q, k, v, extras, _blocks.Marks(*turned), meet).reshape(-1, B, G, R, M, K)
    return jnp.moveaxis(y, (1, 4), (0, 2)).reshape(B, -1, H, K)[:, :L]


def _loop(order, count, body, carry):
    """body(j, carry) for the first `count` numbers j of `order`."""
    if len(order) == 1:
        return body(0, carry)
    return jax.lax.fori_loop(0, count, lambda i, carry: body(order[i], carry), carry)


# The first operand gives the leading axis of the result; other orders would turn scores in the loop.
_product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


def _scores(rules, extras, q_BGMK, k_BGCK, pq_BM, pk_BC, sq_BM, sk_BC):
    """(B, G, C, M), and the slope of the soft cap; FLOOR where a query may not look."""
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
    allowed = rules.sight.sees(pq_BM[:, None, :], pk_BC[:, :, None])
    if sq_BM is not None:
        allowed &= sq_BM[:, None, :] == sk_BC[:, :, None]
    return s_BGCM if allowed is True else jnp.where(allowed[:, None], s_BGCM, FLOOR), slope


def _places(rules, extras, back_BCM):
    """Where the bias of each pair stands in the tables of the heads of a group, side by side."""
    _, R, N = extras.table_GRN.shape
    place_BCM = Relative(table_HN=extras.table_GRN[0]).place(back_BCM, rules.sight.causal)
    return place_BCM + jnp.repeat(N * jnp.arange(R), back_BCM.shape[2] // R)[None, None]


def _pick(marks, i, j):
    """The marks of one block of queries and one of keys."""
    return (None if a is None else _at(a, index) for a, index in zip(marks, (i, j, i, j), strict=True))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _run(rules, q, k, v, extras, marks, meet):
    return _forward(rules, q, k, v, extras, marks, meet)[0]


def _forward(rules, q, k, v, extras, marks, meet):
    n, B, G, M, K = q.shape
    vT, sinks_GM = jnp.swapaxes(v, 3, 4), extras.sinks_GM

    def row(_, slices):
        i, q_BGMK, order_m, count = slices

        def block(j, carry):
            y_BGKM, peak_BGM, total_BGM = carry
            s_BGCM, _ = _scores(rules, extras, q_BGMK, _at(k, j), *_pick(marks, i, j))
            new_BGM = jnp.maximum(peak_BGM, jnp.max(s_BGCM, axis=2))
            p_BGCM, keep_BGM = jnp.exp(s_BGCM - new_BGM[:, :, None]), jnp.exp(peak_BGM - new_BGM)
            y_BGKM = y_BGKM * keep_BGM[:, :, None] + _product("BGKC,BGCM->BGKM", _at(vT, j), p_BGCM.astype(q.dtype))
            return y_BGKM, new_BGM, total_BGM * keep_BGM + jnp.sum(p_BGCM, axis=2)

        # A peak well above the floor: what may not be seen has weight zero even where there is nothing else.
        peak, total = (FLOOR / 2, 0.0) if sinks_GM is None else (sinks_GM[None], 1.0)
        whole = lambda x: jnp.broadcast_to(jnp.asarray(x, jnp.float32), (B, G, M))
        carry = jnp.zeros((B, G, K, M), jnp.float32), whole(peak), whole(total)
        y_BGKM, peak_BGM, total_BGM = _loop(order_m, count, block, carry)
        some_BGM = total_BGM > 0
        total_BGM = jnp.where(some_BGM, total_BGM, 1.0)
        y_BGKM = (y_BGKM / total_BGM[:, :, None]).astype(q.dtype)
        return None, (y_BGKM, jnp.where(some_BGM, peak_BGM + jnp.log(total_BGM), 0.0))

    _, (yT, sums) = jax.lax.scan(row, None, (jnp.arange(n), q, meet.keys_nm, meet.count_n))
    y = jnp.swapaxes(yT, 3, 4)
    return y, (q, k, v, extras, marks, meet, y, sums)


def _backward(rules, residuals, dy):
    q, k, v, extras, marks, meet, y, sums = residuals
    n, B, G, M, K = q.shape
    inner = jnp.sum(dy.astype(jnp.float32) * y.astype(jnp.float32), axis=-1)

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
        *carry, dk_BGCK, dv_BGCK = _loop(order_n, count, block, (*carry, zeros, zeros))
        return tuple(carry), (dk_BGCK.astype(q.dtype), dv_BGCK.astype(q.dtype))

    # One sum per row: rows on different devices meet after the loops.
    zeros = jax.tree.map(lambda a: jnp.zeros((B, *a.shape), jnp.float32), extras._replace(sinks_GM=None))
    carry = jnp.zeros((n, B, G, K, M), jnp.float32), zeros
    slices = (jnp.arange(len(k)), k, v, jnp.swapaxes(k, 3, 4), meet.queries_mn, meet.count_m)
    (dqT, dextras), (dk, dv) = jax.lax.scan(column, carry, slices)
    dextras = jax.tree.map(lambda a: a.sum(axis=0), dextras)
    if extras.sinks_GM is not None:
        sinks = -jnp.sum(jnp.exp(extras.sinks_GM[None, None] - sums) * inner, axis=(0, 1))
        dextras = dextras._replace(sinks_GM=sinks)
    return jnp.swapaxes(dqT, 3, 4).astype(q.dtype), dk, dv, dextras, None, None


def _pull_extras(rules, extras, sums, ds_BGCM, pq_BM, pk_BC):
    """`sums` and what one block adds to the gradients of slopes and tables, row by row."""
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
