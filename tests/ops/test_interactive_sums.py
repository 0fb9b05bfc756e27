"""Attention in both directions against loops in numpy, in chunks of any size, and where memory is short."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.ops import interactive

RNG = np.random.default_rng(0)
B, L, S, H, K = 3, 9, 4, 2, 3
REAL_S = np.array([[1, 1, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0]], bool)


def arguments(kind):
    """Scores, x, m, sums that some tokens have left behind, and flags."""
    draw = lambda *shape: RNG.normal(size=shape)
    made_of = draw(B, L, H, K), draw(B, S, H, K), draw(B, L, H), draw(B, H, S)
    x, m, sums = draw(B, L, H, K), draw(B, S, H, K), (draw(B, H, S, K), np.exp(draw(B, H, S)))
    real = RNG.random((B, L)) > 0.3 if "mask" in kind else None
    fresh = RNG.random((B, L)) > 0.6 if "reset" in kind else None
    return made_of, x, m, sums, real, fresh


def exps(made_of, cap):
    q, k, bias_q, bias_k = made_of
    score = np.einsum("blhk,bshk->blhs", q, k) + bias_q[..., None] + bias_k[:, None]
    return np.exp(cap * np.tanh(score / cap))


def loop(made_of, x, m, sums, real, fresh, cap):
    e, (total, weight) = exps(made_of, cap), (a.copy() for a in sums)
    r, c = np.zeros_like(x), np.zeros_like(x)
    for b, t, h in np.ndindex(B, L, H):
        if real is not None and not real[b, t]:
            continue
        if fresh is not None and fresh[b, t]:
            total[b, h], weight[b, h] = 0, 0
        places = np.flatnonzero(REAL_S[b])
        total[b, h, places] += np.outer(e[b, t, h, places], x[b, t, h])
        weight[b, h, places] += e[b, t, h, places]
        a = e[b, t, h, places] / e[b, t, h, places].sum()
        r[b, t, h] = a @ m[b, places, h]
        c[b, t, h] = (a / weight[b, h, places]) @ total[b, h, places]
    return r, c, (total, weight)


def run(made_of, x, m, sums, real, fresh, **options):
    return interactive.attend(
        interactive.Scores(*made_of), x, m, interactive.Sums(*sums), jnp.asarray(REAL_S), real, fresh, **options
    )


@pytest.mark.parametrize("chunk", [1, 4, 64])
@pytest.mark.parametrize("kind", ["plain", "mask", "reset", "mask+reset"])
def test_attend(kind, chunk):
    made_of, x, m, sums, real, fresh = arguments(kind)
    *wanted, sums_wanted = loop(made_of, x, m, sums, real, fresh, 2.0)
    narrow = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), (made_of, x, m, sums))
    r, c, after = jax.jit(lambda *a: run(*a, real, fresh, cap=2.0, chunk=chunk))(*narrow)
    for got, right in zip((r, c, *after), (*wanted, *sums_wanted), strict=True):
        np.testing.assert_allclose(got, right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_low_precision_holds_the_largest_sums(dtype):
    """Of exp(30), many times: float16 ends at 65504."""
    _, x, m, sums, real, fresh = arguments("mask")
    sums = jax.tree.map(np.zeros_like, sums)
    made_of = (*jax.tree.map(np.zeros_like, arguments("")[0])[:2], np.full((B, L, H), 1e3), np.zeros((B, H, S)))
    *wanted, _ = loop(made_of, x, m, sums, real, fresh, 30.0)
    narrow = jax.tree.map(lambda a: jnp.asarray(a, dtype), (made_of[:2], x, m))
    f = lambda x: run((*narrow[0], *map(jnp.float32, made_of[2:])), x, narrow[2], sums, real, fresh, cap=30.0)

    @jax.jit
    def both(x):
        (r, c, after), pull = jax.vjp(f, x)
        return (r, c), pull((jnp.ones_like(r), jnp.ones_like(c), jax.tree.map(jnp.zeros_like, after)))

    found, (slope,) = both(narrow[1])
    for got, right in zip(found, wanted, strict=True):
        np.testing.assert_allclose(got, right, rtol=0.03, atol=0.03)
    assert np.all(np.isfinite(slope))


def test_weights():
    made_of, _, _, _, real, fresh = arguments("mask+reset")
    e = exps(made_of, 2.0) * REAL_S[:, None, None] * real[:, :, None, None]
    ways = jax.jit(lambda *made_of: interactive.weights(interactive.Scores(*made_of), REAL_S, real, fresh, cap=2.0))
    a, back = jax.device_get(ways(*made_of))
    document = np.cumsum(fresh & real, axis=1)
    for b, t, h, s in np.ndindex(B, L, H, S):
        if not (real[b, t] and REAL_S[b, s]):
            assert a[b, h, t, s] == back[b, h, s, t] == 0
            continue
        np.testing.assert_allclose(a[b, h, t, s], e[b, t, h, s] / e[b, t, h].sum(), rtol=1e-4)
        whole = e[b, document[b] == document[b, t], h, s].sum()
        np.testing.assert_allclose(back[b, h, s, t], e[b, t, h, s] / whole, rtol=1e-4)


def test_the_way_back_keeps_one_state_per_chunk():
    """No array of the compiled gradient holds a state, or a row of scores, for every token."""
    long, rows = 1024, 1
    shape = lambda n, *rest: np.ones((rows, n, 1, *rest), "float32")
    made_of = interactive.Scores(shape(long, 8), shape(512, 8), shape(long), np.ones((rows, 1, 512), "float32"))
    sums = interactive.Sums(np.zeros((rows, 1, 512, 8), "float32"), np.zeros((rows, 1, 512), "float32"))

    def loss(x):
        r, c, _ = interactive.attend(made_of, x, shape(512, 8), sums, jnp.ones((rows, 512), bool), cap=10.0)
        return jnp.sum(r * c)

    compiled = jax.jit(jax.grad(loss)).lower(shape(long, 8)).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * long * 512  # of a row of scores for every token
