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
    hidden = jnp.where(allowed, jnp.asarray(score, jnp.float32), jnp.nan)  # what is not allowed does not count
    got = jax.jit(getattr(weights, name))(hidden, allowed)
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    assert got.dtype == jnp.float32 == getattr(weights, name)(hidden.astype(jnp.bfloat16), allowed).dtype
    if name != "sigmoid":
        np.testing.assert_allclose(got.sum(axis=1), allowed.any(axis=1), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name):
    score, allowed = draw()
    c = RNG.normal(size=(ROWS, S))
    f = lambda s: jnp.vdot(getattr(weights, "softmax" if name == "hard" else name)(s, allowed), jnp.asarray(c))
    gradient = jax.grad(lambda s: jnp.vdot(getattr(weights, name)(s, allowed), jnp.asarray(c)))
    x = jnp.asarray(score, jnp.float32)
    got = gradient(x)
    for row, place in np.ndindex(ROWS, S):
        step = jnp.zeros_like(x).at[row, place].set(1e-2)
        np.testing.assert_allclose(got[row, place], (f(x + step) - f(x - step)) / 2e-2, atol=5e-3)
    assert not np.any(np.where(allowed, 0, got))
    assert np.all(np.isfinite(gradient(jnp.where(allowed, x * 1e4, jnp.nan))))


@pytest.mark.parametrize("name", NAMES)
def test_second_derivatives(name):
    """Forwards over backwards and backwards twice, against differences of gradients."""
    score, allowed = draw()
    x, c, v = (jnp.asarray(a, jnp.float32) for a in (score, RNG.normal(size=(ROWS, S)), RNG.normal(size=(ROWS, S))))
    slope = jax.grad(lambda s: jnp.vdot(getattr(weights, name)(s, allowed) ** 2, c))
    forwards = jax.jvp(slope, (x,), (v,))[1]
    backwards = jax.grad(lambda s: jnp.vdot(slope(s), v))(x)
    np.testing.assert_allclose(forwards, backwards, atol=1e-4)
    wanted = (slope(x + 1e-3 * v) - slope(x - 1e-3 * v)) / 2e-3
    if name != "hard":  # whose gradient is another function's
        np.testing.assert_allclose(forwards, wanted, atol=2e-2)


def test_sparse_weights_are_sparse_and_nearer_scores_give_more_of_them():
    allowed = np.ones((1, S), bool)
    counts = {}
    for name in ("softmax", "entmax", "sparsemax"):
        p = getattr(weights, name)(jnp.linspace(0, 2.5, S)[None], allowed)
        counts[name] = int((p > 0).sum())
    assert counts["softmax"] == S > counts["entmax"] > counts["sparsemax"] > 1
