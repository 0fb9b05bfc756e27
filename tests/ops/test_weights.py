"""Weights of attention: what they sum to, against a search in numpy, and their gradients against slopes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.ops import weights

RNG = np.random.default_rng(0)
ROWS, S = 6, 7
NAMES = ("softmax", "sigmoid", "hard", "sparsemax", "entmax")


def draw():
    score, allowed = RNG.normal(size=(ROWS, S)), RNG.random((ROWS, S)) > 0.3
    allowed[0], allowed[1] = False, True
    return score, allowed


def searched(score, power):
    """The weights max(s / power' - t, 0)^power that sum to one, t by bisection."""
    low, high = -1e3, 1e3
    for _ in range(100):
        t = (low + high) / 2
        p = np.maximum(score / power - t, 0) ** power
        low, high = (t, high) if p.sum() > 1 else (low, t)
    return p


ORACLES = {
    "softmax": lambda s: np.exp(s) / np.exp(s).sum(),
    "sigmoid": lambda s: 1 / (1 + np.exp(-s)),
    "hard": lambda s: (s == s.max()).astype(float),
    "sparsemax": lambda s: searched(s, 1),
    "entmax": lambda s: searched(s, 2),
}


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("name", NAMES)
def test_weights(name, scale):
    score, allowed = draw()
    score *= scale
    wanted = np.zeros((ROWS, S))
    for row in range(1, ROWS):
        wanted[row, allowed[row]] = ORACLES[name](score[row, allowed[row]])
    hidden = np.where(allowed, np.float32(score), np.float32(np.nan))  # what is not allowed does not count
    got = jax.jit(getattr(weights, name))(hidden, allowed)
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    low = jax.eval_shape(getattr(weights, name), hidden.astype(jnp.bfloat16), allowed)
    assert got.dtype == jnp.float32 == low.dtype
    if name != "sigmoid":
        np.testing.assert_allclose(got.sum(axis=1), allowed.any(axis=1), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name):
    score, allowed = draw()
    c = RNG.normal(size=(ROWS, S))
    f = jax.jit(lambda s: jnp.vdot(getattr(weights, "softmax" if name == "hard" else name)(s, allowed), jnp.float32(c)))
    gradient = jax.jit(jax.grad(lambda s: jnp.vdot(getattr(weights, name)(s, allowed), jnp.float32(c))))
    x = np.float32(score)
    got = gradient(x)
    for row, place in np.ndindex(ROWS, S):
        step = np.zeros_like(x)
        step[row, place] = 1e-2
        np.testing.assert_allclose(got[row, place], (f(x + step) - f(x - step)) / 2e-2, atol=5e-3)
    assert not np.any(np.where(allowed, 0, got))
    assert np.all(np.isfinite(gradient(np.where(allowed, x * np.float32(1e4), np.float32(np.nan)))))


@pytest.mark.parametrize("name", NAMES)
def test_second_derivatives(name):
    """Forwards over backwards and backwards twice, against differences of gradients."""
    score, allowed = draw()
    x, c, v = (np.float32(a) for a in (score, RNG.normal(size=(ROWS, S)), RNG.normal(size=(ROWS, S))))
    slope = jax.grad(lambda s: jnp.vdot(getattr(weights, name)(s, allowed) ** 2, c))

    @jax.jit
    def both(x):
        """And slopes on either side."""
        ways = jax.jvp(slope, (x,), (v,))[1], jax.grad(lambda s: jnp.vdot(slope(s), v))(x)
        return *ways, slope(x + 1e-3 * v), slope(x - 1e-3 * v)

    forwards, backwards, above, below = both(x)
    np.testing.assert_allclose(forwards, backwards, atol=1e-4)
    wanted = (np.asarray(above) - below) / 2e-3
    if name != "hard":  # whose gradient is another function's
        np.testing.assert_allclose(forwards, wanted, atol=2e-2)


def test_sparse_weights_are_sparse_and_nearer_scores_give_more_of_them():
    allowed = np.ones((1, S), bool)
    counts = {}
    for name in ("softmax", "entmax", "sparsemax"):
        p = jax.jit(getattr(weights, name))(np.linspace(0, 2.5, S, dtype="float32")[None], allowed)
        counts[name] = int((np.asarray(p) > 0).sum())
    assert counts["softmax"] == S > counts["entmax"] > counts["sparsemax"] > 1
