"""k-means, from which mixtures begin, against scikit-learn and by what it promises."""

import jax
import numpy as np
import pytest

from seqjax.emissions._kmeans import kmeans

DRAW = np.random.default_rng(0)
KEY = jax.random.key(0)


def inertia(x, cluster, K):
    return sum(((x[cluster == k] - x[cluster == k].mean(0)) ** 2).sum() for k in range(K))


def test_it_finds_clusters_in_any_units():
    """The second feature would hide the clusters, were it not divided by its standard deviation."""
    wanted = np.repeat(np.arange(4), 50)
    x = np.stack([10 * wanted + DRAW.normal(size=200), 1e3 * DRAW.normal(size=200)], axis=1)
    found = kmeans(x * [1, 1e-3], 4, KEY, n_init=5)
    np.testing.assert_array_equal(found, kmeans(x, 4, KEY, n_init=5))
    alone = kmeans(x[:, :1], 4, KEY)
    assert len({*zip(alone.tolist(), wanted.tolist(), strict=True)}) == 4


def test_it_is_as_good_as_that_of_scikit_learn_and_better_with_more_starts():
    cluster = pytest.importorskip("sklearn.cluster")
    x = DRAW.normal(size=(300, 3))
    x = (x - x.mean(0)) / x.std(0)
    oracle = cluster.KMeans(6, n_init=20, random_state=0).fit(x).inertia_
    one, many = (inertia(x, kmeans(x, 6, KEY, n), 6) for n in (1, 20))
    assert many <= one and many < 1.01 * oracle


def test_no_cluster_is_empty_and_each_vector_is_in_the_nearest():
    x = np.concatenate([np.zeros((20, 2)), DRAW.normal(size=(3, 2)) + 5])
    found = kmeans(x, 4, KEY)
    assert {*found} == {0, 1, 2, 3}
    scaled = x / x.std(0)
    centres = np.stack([scaled[found == k].mean(0) for k in range(4)])
    np.testing.assert_array_equal(found, ((scaled[:, None] - centres) ** 2).sum(-1).argmin(1))


def test_what_is_missing_is_not_read():
    x = np.concatenate([DRAW.normal(size=(20, 2)), DRAW.normal(size=(20, 2)) + 20])
    observed = np.ones(x.shape, bool)
    observed[::5, 1] = False
    first, second = (kmeans(np.where(observed, x, value), 2, KEY, 1, observed) for value in (0, -1e6))
    np.testing.assert_array_equal(first, second)


def test_too_few_vectors_are_refused():
    with pytest.raises(ValueError, match="5 clusters need as many different vectors, got 2: choose fewer components"):
        kmeans(np.repeat(np.eye(2), 5, axis=0), 5, KEY)
    with pytest.raises(ValueError, match="got 0"):
        kmeans(np.zeros((0, 2)), 1, KEY)
