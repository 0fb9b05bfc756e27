"""Recurrences with a matrix as state against the definition, one token after the other, in float64.

Compared by hand, float32, 192 or 200 tokens, largest difference over largest value: with flash-linear-attention 0.6.0
(`naive.py`, torch 2.13.0) GLA 2.6e-7, retention 3.2e-7, the delta rule with beta up to 2 3.6e-7, RWKV-7 (`dplr`)
5.0e-7; with transformers 5.24.0 the gated delta rule of Qwen3-Next 3.8e-7 (by token) and 7.0e-7 (in chunks).
"""

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
    # A sum that holds -16 rounds to 1e-6 of what follows it.
    close(jax.device_get(got), wanted(form), 1e-4 if "at once" in form else 1e-5)


def test_pieces_with_state_are_the_whole():
    """The middle piece is one token."""
    parts, (real, fresh) = jax.tree.map(jnp.float32, draw()), flags()
    tokens, state, ys = FORMS["everything"](parts), parts["S"], []
    for start, end in ((0, 10), (10, 11), (11, L)):
        now = np.s_[:, start:end]
        y, state = matrix_state.run(jax.tree.map(lambda a, now=now: a[now], tokens), state, real[now], fresh[now])
        ys.append(y)
    close((np.concatenate(ys, axis=1), np.asarray(state)), wanted("everything")[0], 1e-5)


def test_what_is_masked_does_not_count_and_gets_no_gradient():
    parts, (real, fresh) = jax.tree.map(jnp.float32, draw()), flags()
    tokens = FORMS["everything"](parts)
    f = jax.jit(jax.value_and_grad(lambda tokens: jnp.sum(matrix_state.run(tokens, parts["S"], real, fresh)[0])))
    y, slopes = jax.device_get(f(jax.tree.map(lambda a: jnp.where(real[:, :, None, None], a, jnp.nan), tokens)))
    close(y, jax.device_get(f(tokens)[0]), 1e-6)
    assert all(np.isfinite(a).all() and not np.any(a[~real]) for a in slopes)


@pytest.mark.slow  # 64k tokens
@pytest.mark.parametrize("form", ["head", "channel", "delta", "everything"])
def test_64k_tokens_in_bfloat16_are_finite(form):
    parts = draw(length=2**16)
    parts = {name: jnp.asarray(a, "float32" if name in ("S", "head", "channel", "bounded", "beta") else "bfloat16")
             for name, a in parts.items()}  # fmt: skip
    lowest = -0.61 if form == "everything" else None  # as in RWKV-7, for chunks of 32 tokens
    run = partial(matrix_state.run, lowest=lowest)
    loss = lambda parts: jnp.sum(run(FORMS[form](parts), parts["S"], *flags(2**16))[0] ** 2)
    out = jax.device_get(jax.jit(jax.value_and_grad(loss))(parts))
    assert all(np.isfinite(np.float32(a)).all() for a in jax.tree.leaves(out))


def test_no_state_per_token_is_kept_for_the_backward_pass():
    """What is kept, and what is needed besides, grows with the length and no faster."""

    def size(length):
        parts = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, "float32"), draw(length=length))
        loss = lambda parts: jnp.sum(matrix_state.run(FORMS["gated delta"](parts), parts["S"])[0] ** 2)
        return jax.jit(jax.grad(loss)).lower(parts).compile().memory_analysis().temp_size_in_bytes

    assert size(2048) < 8.5 * size(256)


def test_what_does_not_fit_is_refused():
    parts, (real, _) = draw(), flags()
    tokens, S = FORMS["head"](parts), parts["S"]
    for wrong, words in [
        (
            dict(tokens=tokens._replace(k=tokens.k[..., :3])),
            r"k is \[3, 21, 2, 3\], and the state \[B, 2, 4, 3\] wants",
        ),
        (dict(tokens=tokens._replace(g=tokens.k[..., :3])), "of width 1 or 4: project"),
        (dict(tokens=tokens._replace(v=tokens.v[:, :, :1])), "wants 2 heads of width 3"),
        (dict(lowest=0.0), "lowest=0.0; it is a bound of log decays"),
        (dict(chunk=0), "chunk=0; it is the number of tokens .* choose at least 1"),
        (dict(reset_BL=real[:, :-1]), r"reset_BL is bool\[3, 20\]"),
    ]:
        with pytest.raises(ValueError, match=words):
            matrix_state.run(**(dict(tokens=tokens, S_BHKV=S) | wrong))
