"""Metrics are sums: parts add up to the whole, and the quotient is that of a loop."""

import collections
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.metrics import F1, Bleu, Edits, Histogram, Ratio, best, is_better

RNG = np.random.default_rng(0)


def test_ratios_add_up_to_the_whole_mean():
    values, weights = np.arange(7.0), np.array([1, 0, 2, 1, 0.5, 0, 1])
    parts = Ratio.of(values[:3], weights[:3]) + Ratio.of(values[3:], weights[3:])
    assert parts.mean() == pytest.approx(np.average(values, weights=weights))
    assert (Ratio(6, 2) + Ratio(1, 8)).mean() == 0.7


def test_what_weighs_nothing_may_be_anything():
    assert Ratio.of(jnp.array([1.0, jnp.nan, jnp.inf]), jnp.array([2.0, 0.0, 0.0])).mean() == 1


def test_nothing_counted_is_nan():
    none, false = jnp.zeros(3), jnp.zeros(3, bool)
    empty = [Ratio.of(none, none), F1.of(false, false, none), Edits.of("", ""), Bleu.of("", "")]
    empty.append(Histogram.of(none, ~false, jnp.ones(3)))  # no negatives
    assert all(math.isnan(metric.mean()) for metric in empty)


def parts(of, *arrays):
    """The metric of all rows, and the sum over the metrics of three parts."""
    cut = [tuple(a[rows] for a in arrays) for rows in (slice(0, 5), slice(5, 6), slice(6, None))]
    first, second, third = (of(*part) for part in cut)
    return of(*arrays), first + second + third


@pytest.mark.parametrize("axis", [None, 0])
def test_f1(axis):
    predicted, actual = RNG.random((9, 4)) < 0.6, RNG.random((9, 4)) < 0.6
    predicted[:, 3] = actual[:, 3] = False  # a class that never occurs
    weight = np.repeat(RNG.integers(0, 3, (9, 1)), 4, axis=1)
    whole, summed = parts(lambda *a: F1.of(*a, axis=axis), predicted, actual, weight)
    scores = []
    for classes in ([0, 1, 2, 3],) if axis is None else ([0], [1], [2], [3]):
        tp = fp = fn = 0
        for p, a, w in zip(*(x[:, classes].ravel() for x in (predicted, actual, weight)), strict=True):
            tp, fp, fn = tp + w * (p and a), fp + w * (p and not a), fn + w * (a and not p)
        if tp + fp + fn:
            precision, recall = tp / max(tp + fp, 1), tp / max(tp + fn, 1)
            scores.append(2 * precision * recall / (precision + recall) if tp else 0)
    assert len(scores) == (1 if axis is None else 3)
    assert whole.mean() == summed.mean() == pytest.approx(np.mean(scores))


def distance(a, b):
    """The recursion of the definition."""
    if not a or not b:
        return len(a) + len(b)
    return min(distance(a[1:], b) + 1, distance(a, b[1:]) + 1, distance(a[1:], b[1:]) + (a[0] != b[0]))


def test_edits():
    pairs = [("kitten", "sitting"), ("", "abc"), ("abc", ""), ("abc", "abc"), ("flaw", "lawn")]
    for pair in pairs:
        assert Edits.of(*pair).errors == distance(*pair), pair
    total = Edits.of(*pairs[0])
    for pair in pairs[1:]:
        total += Edits.of(*pair)
    assert total.mean() == sum(distance(*pair) for pair in pairs) / sum(len(reference) for _, reference in pairs)
    assert Edits.of(["the", "cat"], ["the", "dog", "sat"]).mean() == 2 / 3


def test_bleu():
    references = ["the quick brown fox jumps over the lazy dog", "it was the best of times it was"]
    outputs = ["the quick brown fox jumped over the lazy the the", "it was the best of the times"]
    total, matches, counts = None, np.zeros(4), np.zeros(4)
    for ours, theirs in ((o.split(), r.split()) for o, r in zip(outputs, references, strict=True)):
        one = Bleu.of(ours, theirs)
        total = one if total is None else total + one
        for n in range(1, 5):
            free = collections.Counter(tuple(theirs[i : i + n]) for i in range(len(theirs) - n + 1))
            for i in range(len(ours) - n + 1):
                counts[n - 1] += 1
                if free[gram := tuple(ours[i : i + n])]:
                    free[gram] -= 1
                    matches[n - 1] += 1
    short = min(1, math.exp(1 - 17 / 17))
    assert total.mean() == pytest.approx(short * np.prod(matches / counts) ** 0.25)
    words = references[0].split()
    assert Bleu.of(words, words).mean() == pytest.approx(1)
    assert Bleu.of(words[:6], words).mean() == pytest.approx(math.exp(1 - 9 / 6))
    assert Bleu.of(["a"], words).mean() == 0


def test_histogram_is_the_area_under_the_curve():
    score, positive = RNG.integers(0, 20, 40) / 20, RNG.random(40) < 0.4
    weight = np.where(np.arange(40) < 35, RNG.integers(1, 3, 40), 0)
    score[36] = np.nan
    whole, summed = parts(lambda *a: Histogram.of(*map(jnp.asarray, a), bins=20), score, positive, weight)
    won = pairs = 0
    for s, w in zip(score[positive], weight[positive], strict=True):
        for t, v in zip(score[~positive], weight[~positive], strict=True):
            won, pairs = won + w * v * ((s > t) + 0.5 * (s == t)) if w * v else won, pairs + w * v
    assert whole.mean() == summed.mean() == pytest.approx(won / pairs)
    assert Histogram.of(jnp.array([1.0, 0.0]), jnp.array([True, False]), jnp.ones(2)).mean() == 1


def test_metrics_are_trees_of_float32_sums():
    three, flags = jnp.ones(3), jnp.ones(3, bool)
    each = (Ratio.of(three, three), F1.of(flags, flags, three), Histogram.of(three, flags, three))
    for metric in (*each, Edits.of("a", "b"), Bleu.of("a", "b")):
        assert {a.dtype for a in jax.tree.leaves(metric)} == {jnp.dtype("float32")}
        host = jax.tree.map(np.float64, metric)
        assert type(host + host) is type(metric) and jax.tree.leaves(host + host)[0].dtype == np.float64


@pytest.mark.parametrize(
    ("way", "new", "old", "better"),
    [
        ("less", 1.0, 2.0, True),
        ("less", 2.0, 2.0, False),
        ("more", 2.0, 1.0, True),
        ("more", 1.0, 2.0, False),
        ("less", 5.0, None, True),
        ("less", math.nan, None, False),
        ("less", math.nan, 3.0, False),
        ("more", math.inf, 0.5, False),
        (None, 0.8, 0.9, False),
        (None, 0.9, 0.8, False),
        (None, 0.9, None, False),
    ],
)
def test_is_better(way, new, old, better):
    assert is_better(way, new, old) is better


@pytest.mark.parametrize(("way", "first"), [("more", (3.0, "c")), ("less", (1.0, "b")), (None, None)])
def test_the_best_is_the_first_that_no_other_beats(way, first):
    items = [(None, "a"), (1.0, "b"), (3.0, "c"), (math.nan, "d"), (3.0, "e"), (1.0, "f"), (math.inf, "g")]
    assert best(way, items, lambda item: item[0]) == first and best(way, []) is None
