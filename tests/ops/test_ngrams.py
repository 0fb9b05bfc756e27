"""Counts, smoothing and look-ups of n-grams against loops over dicts of tuples."""

import collections
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.ops import ngrams, smoothing

V, N = 9, 3  # the last token never occurs
draw = np.random.default_rng(2)
DOCUMENTS = [list(draw.geometric(0.3, length) % (V - 1)) for length in (150, 60, 1, 2)]
KINDS = {
    "additive": smoothing.additive(0.5),
    "witten_bell": smoothing.witten_bell(),
    "stupid_backoff": smoothing.stupid_backoff(),
    "kneser_ney": smoothing.kneser_ney(),
    "modified_kneser_ney": smoothing.kneser_ney(modified=True),
}


def text(documents=DOCUMENTS):
    """What is counted: all tokens, and where documents begin."""
    starts = [t == 0 for document in documents for t in range(len(document))]
    return np.array([token for document in documents for token in document]), np.array(starts)


def counted(n, documents=DOCUMENTS):
    """(context, token) -> how often; the start of a document is the token V."""
    c = collections.Counter()
    for document in documents:
        s = (V, *map(int, document))
        c.update((s[t - k : t], s[t]) for t in range(1, len(s)) for k in range(min(n, t) + 1))
    return c


def reference(kind, n, documents=DOCUMENTS):
    """(context, token) -> probability, by the equations."""
    raw = counted(n, documents)
    c = dict(raw)
    if "kneser_ney" in kind:
        before = collections.Counter((h[1:], v) for h, v in raw if h)
        c = {(h, v): before[h, v] or raw[h, v] for h, v in raw}
    follow = collections.defaultdict(dict)
    for (h, v), count in c.items():
        follow[h][v] = count

    def discount(h, count):
        n_ = collections.Counter(count for (g, _), count in c.items() if len(g) == len(h))
        y = n_[1] / (n_[1] + 2 * n_[2])
        if kind == "kneser_ney":
            return y
        i = min(count, 3)
        return i - (i + 1) * y * n_[i + 1] / n_[i]

    def p(h, v):
        here = follow.get(h)
        if not here:
            return p(h[1:], v)
        count, total, types = here.get(v, 0), sum(here.values()), len(here)
        lower = p(h[1:], v) if h else 1 / V
        if kind == "additive":
            return (count + 0.5) / (total + 0.5 * V)
        if kind == "stupid_backoff":
            return count / total if count else 0.4 * lower
        if kind == "witten_bell" or not h:
            return (count + types * lower) / (total + types)
        kept = count - discount(h, count) if count else 0
        return (kept + sum(discount(h, each) for each in here.values()) * lower) / total

    return p


def contexts(n):
    """All strings of n tokens, and all shorter ones at the start of a document."""
    shorter = [(V, *h) for k in range(n) for h in itertools.product(range(V), repeat=k)]
    return [*itertools.product(range(V), repeat=n), *shorter]


@functools.partial(jax.jit, static_argnames="longest")
def look_up(table, symbols_nBL, longest, root=0):
    return ngrams.look_up(table, symbols_nBL, root=root, longest=longest)


def found(kind, n=N, documents=DOCUMENTS):
    """The probabilities of all tokens after each context."""
    table = ngrams.table(ngrams.count(*text(documents), V, n), KINDS[kind])
    newest_first = [[*reversed(h), *[V + 1] * (n - len(h))] for h in contexts(n)]
    symbols_nBL = jnp.array(newest_first, jnp.int32).T[:, :, None]
    return np.exp(look_up(table, symbols_nBL, longest=KINDS[kind].longest)[:, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_are_those_of_the_equations(kind):
    """After every context, counted or not; also of the token that never occurs."""
    p, got = reference(kind, N), found(kind)
    wanted = np.array([[p(h, v) for v in range(V)] for h in contexts(N)])
    np.testing.assert_allclose(got, wanted, rtol=3e-6)
    if kind == "stupid_backoff":
        assert np.abs(got.sum(axis=1) - 1).max() > 0.01
    else:
        np.testing.assert_allclose(got.sum(axis=1), 1, rtol=3e-6)
        assert np.all(got > 0)


@pytest.mark.parametrize("kind", ["witten_bell", "kneser_ney", "modified_kneser_ney"])
def test_a_text_is_scored_by_the_equations(kind):
    """Also where a document has just begun, and by a table whose contexts are longer than what is known."""
    table, p = ngrams.table(ngrams.count(*text(), V, N), KINDS[kind]), reference(kind, N)
    tokens = np.random.default_rng(0).integers(0, V, 60)
    known = np.minimum(np.arange(60) % 23, np.where(np.arange(60) % 3, 60, 2))
    wanted = []
    for t in np.flatnonzero(known):
        s = (V, *map(int, tokens[t - known[t] : t]))
        wanted.append(p(s[-N:], int(tokens[t])))
    np.testing.assert_allclose(np.exp(ngrams.log_p(table, tokens, known)), wanted, rtol=3e-6)


def test_tables_side_by_side_are_what_each_is_by_itself():
    tables = [
        ngrams.table(ngrams.count(*text(some), V, N), KINDS["witten_bell"]) for some in (DOCUMENTS, [[3], [1, 1]])
    ]
    together, root_C = ngrams.joined([*tables, tables[0]])
    symbols_nBL = jnp.array([[*reversed(h), *[V + 1] * (N - len(h))] for h in contexts(N)], jnp.int32).T[:, :, None]
    for c, table in enumerate(tables):
        own = together._replace(unigram_V=together.unigram_V[c])
        wanted = look_up(table, symbols_nBL, False)
        np.testing.assert_array_equal(look_up(own, symbols_nBL, False, root_C[c]), wanted)
    for name in ("oldest_N", "child_N", "first_N", "back_off_N", "token_G", "log_p_G"):
        assert getattr(together, name).dtype == getattr(tables[0], name).dtype


def test_without_contexts_there_are_only_tokens():
    for kind in KINDS:
        table = ngrams.table(ngrams.count(*text(), V, 0), KINDS[kind])
        p = reference(kind, 0)
        got = ngrams.look_up(table, jnp.zeros((0, 2, 3), jnp.int32))
        np.testing.assert_allclose(np.exp(got[1, 2]), [p((), v) for v in range(V)], rtol=3e-6)


def test_every_n_gram_is_stored_once():
    counts = ngrams.count(*text(), V, N)
    wanted = counted(N)
    for k, order in enumerate(counts.orders, 1):
        mine = {key: count for key, count in wanted.items() if len(key[0]) == k}
        assert sorted(order.count_G) == sorted(mine.values())
        assert len(order.parent_N) == len({h for h, _ in mine})
    assert list(counts.count_V) == [wanted[(), v] for v in range(V)]


def test_contexts_longer_than_all_documents_change_nothing():
    short = [[0, 1, 0, 1, 1], [1, 1, 0]]
    deep, deeper = (ngrams.count(*text(short), 2, n) for n in (5, 50))
    assert len(deeper.orders) == 5
    jax.tree.map(np.testing.assert_array_equal, deep, deeper)


def test_strings_are_told_apart_however_long_they_are():
    """Two contexts of 40 tokens that differ in the oldest alone, with more strings than 64 bits hold."""
    same = list(draw.integers(0, V - 1, 39))
    documents = [[0, *same, 1], [1, *same, 2]]
    counts = ngrams.count(*text(documents), V, 40)
    last = counts.orders[39]
    assert len(last.count_G) == 4 and set(last.count_G) == {1}  # two with the start of a document as the oldest token
    assert len(set(last.context_G.tolist())) == 4


def test_too_little_data_for_discounts_is_an_error():
    counts = ngrams.count(*text([[0, 1, 2, 3]]), V, 1)
    for modified in (False, True):
        with pytest.raises(ValueError, match=r"counted 1, 2, 3 and 4 times, .* too little data .*: choose a smaller"):
            ngrams.table(counts, smoothing.kneser_ney(modified))
