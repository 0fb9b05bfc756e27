"""Gaussian vectors by regression, against numpy in float64."""

import jax
import numpy as np
import pytest
import scipy.stats

from seqjax.ops import gaussian

X, F, N, K = 4, 5, 30, 3
DRAW = np.random.default_rng(0)
ROOT = DRAW.normal(size=(X, F, F))
ROOT[1, 3] = ROOT[1, 0] - 2 * ROOT[1, 1]  # feature 3 follows from those before it
ROOT[2, 1] = 0  # a constant
S = ROOT @ ROOT.swapaxes(1, 2)
S[3, :3, :3] = [[1, 1, 0.5], [1, 1 + 1.2e-7, 0.5 + 3e-4], [0.5, 0.5 + 3e-4, 1]]  # equal features, but for rounding
S[3, 3:, :3] = S[3, :3, 3:] = 0
MEAN, LOG_SCALE = DRAW.normal(size=(K, F)), 0.3 * DRAW.normal(size=(K, F))
VECTORS, WEIGHT = DRAW.normal(size=(N, F)), DRAW.uniform(size=(N, K))
SEEN = DRAW.random((N, F)) < 0.6
SEEN[0], SEEN[1] = True, False
half = lambda *args: [np.asarray(a, np.float32) if a.dtype != bool else a for a in args]
d, U = jax.device_get(jax.jit(gaussian.eliminate)(np.float32(S)))


def test_the_factors_make_the_covariance_also_a_singular_one():
    np.testing.assert_allclose(U @ S @ U.swapaxes(1, 2), d[:, :, None] * np.eye(F), atol=4e-4)
    np.testing.assert_array_equal(np.triu(U), np.broadcast_to(np.eye(F), U.shape))
    np.testing.assert_allclose(d[0].prod(), np.linalg.det(S[0]), rtol=1e-3)
    assert abs(d[1, 3]) < 1e-4 and d[2, 1] == 0 and np.delete(d[2], 1).min() > 1e-3


def test_what_is_left_by_rounding_explains_nothing():
    """It would leave a negative variance."""
    np.testing.assert_allclose(d[3, 2], 0.75, rtol=1e-5)


def test_the_variance_of_a_feature_is_what_those_before_it_leave():
    for f in range(1, F):
        rest = S[0, f, f] - S[0, f, :f] @ np.linalg.solve(S[0, :f, :f], S[0, :f, f])
        np.testing.assert_allclose(d[0, f], rest, rtol=1e-3)


def test_packed_factors_come_back_and_make_the_covariance():
    np.testing.assert_array_equal(gaussian.unpack(gaussian.pack(U), F), U)
    assert gaussian.pack(U).shape == (X, F * (F - 1) // 2)
    np.testing.assert_allclose(gaussian.covariance(U[0], 0.5 * np.log(d[0])), S[0], rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def given_the_rest():
    """Density, and E and Cov, of the vectors of which some features are missing."""
    x, u, scale = half(VECTORS, U[0], 0.5 * np.log(d[0]))
    both = jax.jit(lambda *a: (gaussian.log_density(*a), *gaussian.filled(*a)))
    return jax.device_get(both(x, u, scale, SEEN))


def test_what_is_missing_is_expected_from_the_rest(given_the_rest):
    density, mean, rest = given_the_rest
    for n, o in enumerate(SEEN):
        seen, gone = np.flatnonzero(o), np.flatnonzero(~o)
        gain = S[0][np.ix_(gone, seen)] @ np.linalg.inv(S[0][np.ix_(seen, seen)])
        wanted, cov = np.where(o, VECTORS[n], 0), np.zeros((F, F))
        wanted[gone] = gain @ VECTORS[n, seen]
        cov[np.ix_(gone, gone)] = S[0][np.ix_(gone, gone)] - gain @ S[0][np.ix_(seen, gone)]
        np.testing.assert_allclose(mean[n], wanted, rtol=5e-3, atol=5e-3)
        np.testing.assert_allclose(rest[n], cov, rtol=5e-3, atol=5e-3)
        oracle = scipy.stats.multivariate_normal(cov=S[0][np.ix_(seen, seen)]).logpdf if len(seen) else lambda x: 0
        np.testing.assert_allclose(density[n], oracle(VECTORS[n, seen]), rtol=2e-3)


@pytest.mark.parametrize("seen", [None, SEEN], ids=["all", "some"])
def test_chunks_change_nothing(seen, monkeypatch):
    """30 vectors in chunks of 8: the last one is filled up."""
    monkeypatch.setattr(gaussian, "CHUNK", 8 * K * F)
    x, mean, log_scale, weight = half(VECTORS, MEAN, LOG_SCALE, WEIGHT)
    run = lambda *a: (gaussian.diagonal(*a[:3], seen), gaussian.moments(a[0], a[3], a[1], seen))
    score, sums = jax.device_get(jax.jit(run)(x, mean, log_scale, weight))
    o = np.ones((N, F), bool) if seen is None else seen
    each = scipy.stats.norm(MEAN, np.exp(LOG_SCALE)).logpdf(VECTORS[:, None])
    np.testing.assert_allclose(score, np.where(o[:, None], each, 0).sum(2), rtol=1e-5, atol=1e-5)
    offset = VECTORS[:, None] - MEAN
    w = WEIGHT[..., None] * o[:, None]
    wanted = w.sum(0), (w * offset).sum(0), (w * offset**2).sum(0)
    for got, one in zip(sums, wanted, strict=True):
        np.testing.assert_allclose(got, one, rtol=1e-5, atol=1e-5)
