"""Recurrences with a matrix as state against the definition, one token after the other, in float64."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.ops import matrix_state
from seqjax.ops.matrix_state import Tokens, delta

B, L, H, K, V = 3, 21, 2, 4, 3


def naive(tokens, S, real, fresh):
    """The equations."""

    def step(S, token):
        (q, g, k, v, a, b, c), real, fresh = token
        new = jnp.exp(g)[..., None] * jnp.where(fresh[:, None, None, None], 0, S)
        if b is not None:
            u = jnp.einsum("bhkv,bhk->bhv", new, a) + (0 if c is None else c)
            new = new + b[..., None] * u[:, :, None]
        if k is not None:
            new = new + k[..., None] * v[:, :, None]
        y = jnp.einsum("bhkv,bhk->bhv", new, jnp.broadcast_to(q, new.shape[:3]))
        return jnp.where(real[:, None, None, None], new, S), jnp.where(real[:, None, None], y, 0)

    slices = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), (tokens, real, fresh & real))
    S, y = jax.lax.scan(step, S, slices)
    return jnp.swapaxes(y, 0, 1), S


def draw(seed=0, length=L):
    """Everything any of the forms needs."""
    rng = np.random.default_rng(seed)
    normal = lambda *shape: rng.normal(size=shape)
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
    wide, one = (B, length, H, K), (B, length, H, 1)
    return dict(
        q=normal(*wide), k=unit(normal(*wide)), v=normal(B, length, H, V), S=normal(B, H, K, V),
        beta=2 * rng.random(one),
        head=-0.3 * rng.exponential(size=one), channel=-0.3 * rng.exponential(size=wide),
        bounded=-0.6 * rng.random(wide), rate=rng.random(wide), kappa=unit(normal(*wide)),
    )  # fmt: skip


def same(x):
    """One token, repeated."""
    return jnp.broadcast_to(x[:, :1], x.shape)


def often(g, size):
    """g, or in about a third of the places a decay that leaves nothing."""
    return jnp.where(jnp.arange(g.size).reshape(g.shape) % 3 == 1, -size, g)


FORMS = {  # parts -> Tokens
    "head": lambda p: Tokens(p["q"], p["head"], p["k"], p["v"]),
    "head, none": lambda p: Tokens(p["q"], 0 * p["head"], p["k"], p["v"]),
    "head, all at once": lambda p: Tokens(p["q"], often(p["head"], 1000.0), p["k"], p["v"]),
    "head, shared keys": lambda p: Tokens(p["q"][:, :, :1], p["head"], p["k"][:, :, :1], p["v"]),
    "channel": lambda p: Tokens(p["q"], p["channel"], p["k"], p["v"]),
    "channel, all at once": lambda p: Tokens(p["q"], often(p["channel"], 1000.0), p["k"], p["v"]),
    "delta": lambda p: delta(p["q"], p["k"], p["v"], p["beta"], 0 * p["head"]),
    "delta, equal keys": lambda p: delta(p["q"], same(p["k"]), p["v"], p["beta"], 0 * p["head"]),
    "delta, reflections": lambda p: delta(p["q"], same(p["k"]), p["v"], 0 * p["beta"] + 2, 0 * p["head"]),
    "gated delta": lambda p: delta(p["q"], p["k"], p["v"], p["beta"], p["head"]),
    "gated delta by channel": lambda p: delta(p["q"], p["k"], p["v"], p["beta"], p["channel"]),
    "everything": lambda p: Tokens(
        p["q"], p["bounded"], p["k"], p["v"], -p["kappa"] * jnp.exp(-p["bounded"]), p["kappa"] * p["rate"], p["v"] / 2
    ),
}


def flags(length=L):
    """Some tokens do not exist, some of all start a document; one row is empty, one has no reset."""
    rng = np.random.default_rng(1)
    real, fresh = rng.random((B, length)) > 0.25, rng.random((B, length)) < 0.15
    real[1], fresh[2] = False, False
    return real, fresh


def both(f, form, parts):
    """y and the last state, and the gradients of their products with fixed numbers by all parts."""
    run = lambda parts: f(FORMS[form](parts), parts["S"], *flags())
    out, pull = jax.vjp(run, parts)
    weights = jax.tree.map(lambda x: jnp.asarray(np.random.default_rng(9).normal(size=x.shape), x.dtype), out)
    return out, pull(weights)[0]


@cache
def wanted(form):
    with jax.enable_x64(True):
        return jax.device_get(jax.jit(partial(both, naive, form))(jax.tree.map(jnp.float64, draw())))


def close(got, right, tolerance):
    """Up to `tolerance` times the largest number of each array, or times 1 if that is larger."""

    def one(path, a, b):
        assert np.all(np.isfinite(a)), path
        scale = max(1.0, np.max(np.abs(b)))
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale, err_msg=jax.tree_util.keystr(path))

    jax.tree_util.tree_map_with_path(one, got, right)


@pytest.mark.parametrize("form", FORMS)
def test_values_and_gradients_are_those_of_the_equations(form):
    """In chunks of 7, and of one token, and all at once."""
    with jax.enable_x64(True):
        every = lambda parts: [both(partial(matrix_state.run, chunk=chunk), form, parts) for chunk in (1, 7, None)]
        for got in jax.device_get(jax.jit(every)(jax.tree.map(jnp.float64, draw()))):
            close(got, wanted(form), 1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_float32_is_near(form):
    with jax.enable_x64(False):
        got = jax.jit(partial(both, matrix_state.run, form))(jax.tree.map(jnp.float32, draw()))
    assert all(a.dtype == "float32" for a in jax.tree.leaves(got))
    # A sum that holds -20 rounds to 1e-6 of what follows it.
    close(jax.device_get(got), wanted(form), 1e-4 if "at once" in form else 1e-5)
