"""Attention in turns, a few heads of a few rows at a time: keys, values and scores of a turn stay in CPU caches."""

import jax
import jax.numpy as jnp

from seqjax.ops.positions import Relative


def attend(way, q_BLHK, k_BSGK, v_BSGK, queries, keys, sinks_H, relative: Relative, most: int):
    """Calls way(q, k, v, queries, keys, sinks, relative) in turns, each with at most `most` groups of heads.

    A turn has all groups of some rows, or some groups of one row.
    """
    B, G = k_BSGK.shape[0], k_BSGK.shape[2]
    rows, groups = _share(B, most // G), _share(G, most)
    if (rows, groups) == (B, G):
        return way(q_BLHK, k_BSGK, v_BSGK, queries, keys, sinks_H, relative)
    n, m = B // rows, G // groups

    def by_turn(a_BLHK):
        a = a_BLHK.reshape(n, rows, a_BLHK.shape[1], m, -1, a_BLHK.shape[3])
        return jnp.moveaxis(a, 3, 1).reshape(n * m, *a.shape[1:3], *a.shape[4:])

    of_rows = lambda a_BL: jnp.repeat(jnp.broadcast_to(a_BL, (B, a_BL.shape[1])).reshape(n, rows, -1), m, axis=0)
    of_heads = lambda a_HX: jnp.tile(a_HX.reshape(m, -1, *a_HX.shape[1:]), (n, *[1] * a_HX.ndim))
    slices = (
        *map(by_turn, (q_BLHK, k_BSGK, v_BSGK)),
        *jax.tree.map(of_rows, (queries, keys)),
        *jax.tree.map(of_heads, (sinks_H, relative)),
    )
    y = jax.lax.map(lambda slices: way(*slices), slices)
    return jnp.moveaxis(y.reshape(n, m, *y.shape[1:]), 1, 3).reshape(q_BLHK.shape)


def _share(whole: int, most: int) -> int:
    """The largest divisor of `whole` that is at most `most`; 1 if there is none."""
    return max(n for n in range(1, whole + 1) if whole % n == 0 and n <= max(most, 1))
