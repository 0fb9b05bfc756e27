"""Counts of spans that two sequences of tags agree on."""

import jax
import jax.numpy as jnp

from seqjax.metrics import F1
from seqjax.ops import _semiring as semiring
from seqjax.spans import Tables


def agree(tables: Tables, predicted_BL, actual_BL, *, mask_BL=None, reset_BL=None) -> F1:
    """Of each type (T,): spans in both, in the first only, in the second only.

    Spans agree if type, begin and end do. A masked token does not exist; a document starts at a reset.
    """
    types = max(int(tables.type_C.max()) + 1, 1)
    real_BL = jnp.ones(actual_BL.shape, bool) if mask_BL is None else mask_BL
    fresh_BL = jnp.zeros_like(real_BL) if reset_BL is None else reset_BL
    (type_BL, end_BL, begins_BL), (of_BL, stop_BL, starts_BL) = (
        _read(tables, tags_BL, real_BL, fresh_BL) for tags_BL in (predicted_BL, actual_BL)
    )
    both_BL = begins_BL & starts_BL & (type_BL == of_BL) & (end_BL == stop_BL)
    count = lambda type_BL, some_BL: jnp.sum(jax.nn.one_hot(jnp.where(some_BL, type_BL, -1), types), axis=(0, 1))
    tp_T = count(type_BL, both_BL)
    return F1(tp_T, count(type_BL, begins_BL) - tp_T, count(of_BL, starts_BL) - tp_T)


def _read(tables, tags_BL, real_BL, fresh_BL):
    """Of each token: its type, where the span that begins here ends, and whether one does."""
    C, L = len(tables.type_C), tags_BL.shape[1]
    tags_LB = jnp.where(real_BL, tags_BL, 0).T
    every_LB1 = jnp.concatenate([jnp.full((1, len(tags_BL), 1), C), tags_LB[..., None]])
    before_MB = jnp.take_along_axis(every_LB1, semiring.last_real(real_BL.T)[..., None], axis=0)[..., 0]
    before_BM = before_MB.T  # the last: after all tokens
    within_BL = jnp.where(fresh_BL, C, before_BM[:, :-1])
    begins_BL = real_BL & jnp.asarray(tables.begins_PC)[within_BL, tags_LB.T]
    inside_BL = jnp.asarray(tables.inside_PC)[within_BL, tags_LB.T]
    stops_BL = jnp.where(real_BL & ~inside_BL, jnp.arange(L)[None], L)
    end_BL = jnp.pad(jax.lax.cummin(stops_BL, axis=1, reverse=True)[:, 1:], [(0, 0), (0, 1)], constant_values=L)
    closes_BM = jnp.asarray(tables.closes_P)[before_BM]
    begins_BL &= jnp.take_along_axis(closes_BM, end_BL, axis=1)
    return jnp.asarray(tables.type_C)[tags_LB.T], end_BL, begins_BL
