"""Statistics against brute force, against scipy, and by their laws."""

import itertools
import math

import numpy as np
import pytest

from seqjax.search import statistics

random = np.random.default_rng(0)


def by_hand(a, b):
    """The paired permutation test as a loop."""
    d = [x - y for x, y in zip(a, b, strict=True)]
    seen = abs(sum(d))
    flips = list(itertools.product((1, -1), repeat=len(d)))
    return sum(abs(sum(s * x for s, x in zip(signs, d, strict=True))) >= seen - 1e-12 for signs in flips) / len(flips)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
def test_the_permutation_test_is_the_loop(n):
    a, b = random.normal(size=n), random.normal(size=n) + 0.5
    assert statistics.permutation_test(a, b) == by_hand(a, b)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_least_p_is_what_the_clearest_difference_gives(n):
    a = np.arange(n) + 100.0
    assert statistics.permutation_test(a, np.arange(n)) == statistics.smallest_p(n) == 2 ** (1 - n)


def test_three_seeds_can_never_convince():
    assert statistics.smallest_p(3) == 0.25 and statistics.smallest_p(6) < 0.05 < statistics.smallest_p(5)


def test_many_pairs_are_drawn_and_never_certain():
    a = random.normal(size=40)
    assert statistics.permutation_test(a + 10, a) == statistics.smallest_p(40) == 1 / (statistics.EXACT + 1)
    b = a + random.normal(size=40)
    exact = by_hand(a[:16], b[:16])
    assert statistics.permutation_test(a[:16], b[:16]) == exact
    assert statistics.permutation_test(a, b) == statistics.permutation_test(b, a)  # always the same draws


def test_equal_runs_differ_by_nothing():
    assert statistics.permutation_test([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) == 1


def test_the_permutation_test_keeps_its_level():
    rejected = [statistics.permutation_test(random.normal(size=7), random.normal(size=7)) <= 0.05 for _ in range(400)]
    assert np.mean(rejected) < 0.09  # 0.05 and four standard errors


def test_the_interval_is_the_loop():
    values = [0.1, 0.4, 0.7, 0.75]
    means = sorted(sum(draw) / 4 for draw in itertools.product(values, repeat=4))
    low = means[math.ceil(0.025 * len(means)) - 1]  # the least mean that 2.5 % are at or below
    high = means[math.ceil(0.975 * len(means)) - 1]
    np.testing.assert_allclose(statistics.interval(values), (low, high))


@pytest.mark.parametrize("n", [2, 3, 6, 7, 20])
def test_the_interval_holds_the_mean_and_moves_with_the_values(n):
    values = random.normal(size=n)
    low, high = statistics.interval(values)
    assert values.min() <= low <= values.mean() <= high <= values.max()
    np.testing.assert_allclose(statistics.interval(3 - 2 * values), (3 - 2 * high, 3 - 2 * low), atol=0.1 / n)
    assert statistics.interval(values) == (low, high)
    wide, narrow = statistics.interval(values, 0.99), statistics.interval(values, 0.5)
    assert wide[0] <= low <= narrow[0] <= narrow[1] <= high <= wide[1]


def test_of_three_seeds_the_interval_holds_the_truth_in_three_of_four_cases():
    held = [low <= 0 <= high for low, high in (statistics.interval(random.normal(size=3)) for _ in range(2000))]
    assert abs(np.mean(held) - 0.75) < 0.04


def test_one_run_has_no_spread():
    assert np.isnan(statistics.interval([1.0])).all()
    assert statistics.summary([2.0])[:3] == (1, 2.0, 2.0)


def test_a_summary():
    s = statistics.summary([1.0, 2.0, 6.0])
    assert (s.n, s.mean, s.median, s.low, s.high) == (3, 3.0, 2.0, 1.0, 6.0)


def test_improvement_counts_pairs_and_halves_ties():
    assert statistics.improvement([3, 4], [1, 2]) == 1
    assert statistics.improvement([1, 2], [1, 2]) == 0.5
    assert statistics.improvement([1, 5], [2, 2, 2]) == 0.5
    a, b = random.normal(size=5), random.normal(size=4)
    assert statistics.improvement(a, b) == pytest.approx(1 - statistics.improvement(b, a))
    assert statistics.improvement(a, b) == pytest.approx(np.mean([x > y for x in a for y in b]))


def test_holm_by_hand():
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert statistics.holm([]) == [] and statistics.holm([0.2]) == pytest.approx([0.2])


def test_holm_is_between_nothing_and_bonferroni():
    p = random.uniform(size=9)
    adjusted = np.array(statistics.holm(p))
    assert (adjusted >= p).all() and (adjusted <= np.minimum(1, 9 * p) + 1e-15).all()
    assert (np.argsort(adjusted, kind="stable") == np.argsort(p, kind="stable")).sum() >= 1
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()


@pytest.mark.parametrize("bad", [[], [1.0, math.nan], [1.0, math.inf], [[1.0]]])
def test_what_is_no_score_is_refused(bad):
    for function in (statistics.summary, statistics.interval):
        with pytest.raises(ValueError, match="one finite score per run"):
            function(bad)
    with pytest.raises(ValueError, match="one finite score"):
        statistics.improvement([1.0], bad)


def test_pairs_need_partners():
    with pytest.raises(ValueError, match="got 2 and 3 runs"):
        statistics.permutation_test([1, 2], [1, 2, 3])


# Against scipy.


def test_scipy_agrees():
    stats = pytest.importorskip("scipy.stats")
    mean = lambda x, y, axis: np.mean(x - y, axis=axis)
    for n in (3, 6, 9):
        a, b = random.normal(size=n), random.normal(size=n) + 0.4
        theirs = stats.permutation_test((a, b), mean, permutation_type="samples", vectorized=True)
        assert statistics.permutation_test(a, b) == pytest.approx(theirs.pvalue)
        u = stats.mannwhitneyu(a, b).statistic
        assert statistics.improvement(a, b) == pytest.approx(u / n**2)
    values = random.normal(size=20)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=50_000, method="percentile", rng=1).confidence_interval
    np.testing.assert_allclose(statistics.interval(values), theirs, atol=0.01)
