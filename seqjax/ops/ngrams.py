"""Counts n-grams, smooths them, and looks contexts up.

Counting is numpy on the host, order by order. A string of k + 1 tokens has the number of the pair (number of its last k
tokens, its first token) among all such pairs, so numbers are exact however long the strings are. The letters are M
tokens of text, G n-grams and N contexts of one order; of a whole table, they are those of all orders.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Order(NamedTuple):
    """The n-grams with a context of k tokens, sorted by (their last k tokens, the first token of their context)."""

    context_G: np.ndarray  # the number of its context, among the contexts of this order
    token_G: np.ndarray
    count_G: np.ndarray
    lower_G: np.ndarray  # the n-gram without its oldest token, in the order below; a token if k = 1
    parent_N: np.ndarray  # the context without its oldest token, in the order below
    oldest_N: np.ndarray  # that token


class Counts(NamedTuple):
    """All n-grams with contexts of 0 to n tokens of a text."""

    count_V: np.ndarray
    orders: list[Order]  # with contexts of 1 to n tokens


class Table(NamedTuple):
    """Probabilities in a tree of contexts; the parent of a context is the context without its oldest token.

    The contexts of all orders are numbered along their lengths, and 0 is the empty one; children of a context, and
    n-grams with a context, are next to each other, sorted by their tokens. Without contexts, only `unigram_V` is read.
    """

    unigram_V: np.ndarray  # float32: log p(token) without a context
    oldest_N: np.ndarray | None = None  # the oldest token of each context; V stands for the start of a document
    child_N: np.ndarray | None = None  # int32 (N + 1,): its first child
    first_N: np.ndarray | None = None  # int32 (N + 1,): its first n-gram
    back_off_N: np.ndarray | None = None  # float32: what tokens that never followed it get, see `Smoothing`
    token_G: np.ndarray | None = None  # the last token of each n-gram
    log_p_G: np.ndarray | None = None  # float32: log p(last token | context)


def count(tokens_M, start_M, V: int, n: int) -> Counts:
    """Counts the n-grams with contexts of up to `n` tokens of a text of ids 0 ... V - 1.

    `start_M`: bool, True where a document begins. Nothing reaches into the document before. The start of a document is
    a token of its own, V, which can only be the oldest of a context.
    """
    begin_D = np.flatnonzero(start_M)
    symbols_M = np.insert(tokens_M.astype(np.int64), begin_D, V)
    at_M = np.flatnonzero(symbols_M != V)  # the tokens that are predicted
    start = np.maximum.accumulate(np.where(symbols_M == V, np.arange(len(symbols_M)), 0))
    reach_M = (np.arange(len(symbols_M)) - start)[at_M]  # how long a context may be
    ids_M = symbols_M.copy()  # the number of the string of k tokens that ends here
    known_N = np.arange(V + 1)  # the number of each such string among the contexts; the empty context has number 0
    pair_G = np.arange(V + 1)  # each such string as a pair: (last k - 1 tokens, first token)
    orders = []
    for k in range(1, n + 1):
        at_M, reach_M = at_M[reach_M >= k], reach_M[reach_M >= k]
        if not len(at_M):
            break
        before_M = ids_M[at_M - 1]
        pairs_M = ids_M[at_M] * (V + 1) + symbols_M[at_M - k]
        pair_new_G, string_M = np.unique(pairs_M, return_inverse=True)
        context_G = np.empty(len(pair_new_G), np.int64)
        context_G[string_M] = before_M
        token_G = np.empty(len(pair_new_G), np.int64)
        token_G[string_M] = symbols_M[at_M]
        is_context = np.zeros(len(pair_G), bool)
        is_context[context_G] = True
        parent, oldest = np.divmod(pair_G[is_context], V + 1)
        orders.append(
            Order(
                (np.cumsum(is_context) - 1)[context_G].astype(np.int32),
                token_G.astype(np.int32),
                np.bincount(string_M).astype(np.int32),
                (pair_new_G // (V + 1)).astype(np.int32),
                (known_N[parent] if k > 1 else np.zeros(len(parent), int)).astype(np.int32),
                oldest.astype(np.int32),
            )
        )
        known_N, pair_G = np.cumsum(is_context) - 1, pair_new_G
        ids_M[at_M] = string_M
    return Counts(np.bincount(tokens_M, minlength=V), orders)


@dataclasses.dataclass(frozen=True)
class Smoothing:
    """How counts become probabilities.

    `tokens(count_V)` -> p_V without a context. `order(k, V, count_G, context_G, p_G)` -> p of the n-grams with a
    context of k tokens, and a number g per context; p_G are the probabilities of the n-grams without their oldest
    tokens. A token that never followed a context has g * p(token | context without its oldest token), or g itself if
    `longest`. `kinds`: of all orders but the highest, the number of different tokens before an n-gram is counted, not
    how often it occurs (an n-gram at the start of a document has none before it: there it is how often).
    """

    tokens: Callable
    order: Callable
    kinds: bool = False
    longest: bool = False


def table(counts: Counts, smoothing: Smoothing) -> Table:
    """The probabilities of counted n-grams."""
    V, n = len(counts.count_V), len(counts.orders)
    found = [counts.count_V, *(order.count_G for order in counts.orders)]
    if smoothing.kinds:
        for k, order in enumerate(counts.orders):
            kinds = np.bincount(order.lower_G, minlength=len(found[k]))
            found[k] = np.where(kinds > 0, kinds, found[k])
    p = p_V = smoothing.tokens(found[0].astype(float))
    symbol = np.min_scalar_type(V)
    token, log_p, back_off, oldest = [], [], [np.zeros(1)], [np.zeros(1, int)]
    children, followers = [], [np.zeros(1, int)]
    for k, (order, count_G) in enumerate(zip(counts.orders, found[1:], strict=True), 1):
        p, g_N = smoothing.order(k, V, count_G.astype(float), order.context_G, p[order.lower_G])
        by_context = np.lexsort((order.token_G, order.context_G))
        token.append(order.token_G[by_context])
        log_p.append(np.log(p[by_context]))
        back_off.append(np.log(g_N))
        oldest.append(order.oldest_N)
        children.append(np.bincount(order.parent_N, minlength=len(back_off[k - 1])))
        followers.append(np.bincount(order.context_G))
    children.append(np.zeros(len(back_off[n]), int))
    cast = lambda parts, dtype: np.concatenate([np.empty(0, dtype), *parts]).astype(dtype)
    first = lambda parts, at: (at + np.cumsum(np.concatenate([[0], *parts]))).astype(np.int32)
    return Table(
        unigram_V=np.log(p_V).astype(np.float32),
        oldest_N=cast(oldest, symbol),
        child_N=first(children, 1),
        first_N=first(followers, 0),
        back_off_N=cast(back_off, np.float32),
        token_G=cast(token, symbol),
        log_p_G=cast(log_p, np.float32),
    )


def joined(tables: list[Table]) -> tuple[Table, np.ndarray]:
    """C tables side by side, as one whose `unigram_V` is (C, V), and the numbers of their empty contexts: int32 (C,).

    To look something up in one of them, give `look_up` its row of `unigram_V`, and its empty context as `root`.
    """
    place = lambda sizes: (np.cumsum(sizes) - sizes).astype(np.int32)
    # Ends of children and of n-grams stay: so each table has one place more than contexts, which nothing leads to.
    root_C = place([len(table.child_N) for table in tables])
    gram_C = place([len(table.token_G) for table in tables])
    end = lambda a_N: np.pad(a_N, (0, 1))
    side_by_side = Table(
        unigram_V=np.stack([table.unigram_V for table in tables]),
        oldest_N=np.concatenate([end(table.oldest_N) for table in tables]),
        child_N=np.concatenate([table.child_N + root for table, root in zip(tables, root_C, strict=True)]),
        first_N=np.concatenate([table.first_N + gram for table, gram in zip(tables, gram_C, strict=True)]),
        back_off_N=np.concatenate([end(table.back_off_N) for table in tables]),
        token_G=np.concatenate([table.token_G for table in tables]),
        log_p_G=np.concatenate([table.log_p_G for table in tables]),
    )
    return side_by_side, root_C


def log_p(table: Table, tokens_M, known_M):
    """log p of each token of a text that has one before it, given the `known_M` tokens before it: numpy, on the host.

    It gives what `look_up` gives for these tokens, without the other V - 1 of each; only for probabilities that add up
    to one by themselves, as those of Witten-Bell and Kneser-Ney do.
    """
    V = len(table.unigram_V)
    numbers = lambda first, symbols, size: np.repeat(np.arange(len(first) - 1), np.diff(first)) * size + symbols
    child_N = numbers(table.child_N, table.oldest_N[1:].astype(np.int64), V + 1)
    gram_G = numbers(table.first_N, table.token_G.astype(np.int64), V)
    at_P = np.flatnonzero(known_M)
    token_P, known_P = tokens_M[at_P].astype(np.int64), known_M[at_P]
    log_p_P = table.unigram_V[token_P].astype(float)
    node_P, alive_P = np.zeros(len(at_P), np.int64), np.arange(len(at_P))
    for back in range(1, int(known_M.max(initial=0)) + 2):
        alive_P = alive_P[known_P[alive_P] >= back - 1]  # the start of the text is the last symbol of a context
        symbol_P = np.where(back <= known_P[alive_P], tokens_M[np.maximum(at_P[alive_P] - back, 0)], V)
        child_P, found_P = _find(child_N, node_P[alive_P] * (V + 1) + symbol_P)
        alive_P = alive_P[found_P]
        if not len(alive_P):
            break
        node_P[alive_P] = child_P[found_P] + 1
        gram_P, seen_P = _find(gram_G, node_P[alive_P] * V + token_P[alive_P])
        lower_P = table.back_off_N[node_P[alive_P]] + log_p_P[alive_P]
        log_p_P[alive_P] = np.where(seen_P, table.log_p_G[gram_P], lower_P)
    return log_p_P


def _find(sorted_N, wanted_P):
    """Where each number is in a sorted array, and whether it is there."""
    at_P = np.minimum(np.searchsorted(sorted_N, wanted_P), len(sorted_N) - 1)
    return at_P, sorted_N[at_P] == wanted_P


def look_up(table: Table, symbols_nBL, *, root=0, longest: bool = False):
    """log p(next token | the last tokens): float32 (B, L, V), of the arrays of a table on the device.

    `symbols_nBL`: the newest token first; V where the document starts, and V + 1 before that. `root`: the number of the
    empty context.
    """
    n, B, L = symbols_nBL.shape
    V = len(table.unigram_V)
    log_p_BLV = jnp.broadcast_to(table.unigram_V, (B, L, V))
    if n == 0:
        return log_p_BLV
    rows = jnp.arange(B)[:, None], jnp.arange(L)[None, :]
    entry_BLV = jnp.full((B, L, V), -1, jnp.int32)

    def deeper(carry, symbol_BL):
        node_BL, alive_BL, log_p_BLV = carry
        node_BL, alive_BL = _child(table, node_BL, alive_BL, symbol_BL)
        first_BL = table.first_N[node_BL]
        count_BL = jnp.where(alive_BL, table.first_N[node_BL + 1] - first_BL, 0)

        def mark(j, entry_BLV):
            at_BL = first_BL + j
            token_BL = jnp.where(j < count_BL, table.token_G[at_BL].astype(jnp.int32), V)
            return entry_BLV.at[(*rows, token_BL)].set(at_BL, mode="drop")

        found_BLV = jax.lax.fori_loop(0, jnp.max(count_BL), mark, entry_BLV)
        lower_BLV = table.back_off_N[node_BL][..., None] + (0 if longest else log_p_BLV)
        here_BLV = jnp.where(found_BLV < 0, lower_BLV, table.log_p_G[found_BLV])
        return (node_BL, alive_BL, jnp.where(alive_BL[..., None], here_BLV, log_p_BLV)), None

    empty_BL = jnp.full((B, L), root, jnp.int32)
    return jax.lax.scan(deeper, (empty_BL, jnp.ones((B, L), bool), log_p_BLV), symbols_nBL)[0][2]


def _child(table: Table, node_BL, alive_BL, symbol_BL):
    """The child of each context with this oldest token, by bisection; and whether there is one."""
    low_BL, end_BL = table.child_N[node_BL], table.child_N[node_BL + 1]

    def halve(_, ends):
        low_BL, high_BL = ends
        middle_BL = (low_BL + high_BL) // 2
        right_BL = table.oldest_N[middle_BL].astype(jnp.int32) < symbol_BL
        open_BL = low_BL < high_BL
        return jnp.where(open_BL & right_BL, middle_BL + 1, low_BL), jnp.where(open_BL & ~right_BL, middle_BL, high_BL)

    at_BL, _ = jax.lax.fori_loop(0, (len(table.unigram_V) + 1).bit_length(), halve, (low_BL, end_BL))
    alive_BL &= (at_BL < end_BL) & (table.oldest_N[at_BL].astype(jnp.int32) == symbol_BL)
    return jnp.where(alive_BL, at_BL, 0), alive_BL
