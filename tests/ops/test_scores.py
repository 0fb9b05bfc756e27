"""Scores against loops in numpy, and the forms that are products of something else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.ops import attention, scores

RNG = np.random.default_rng(0)
B, L, S, H, G, K, P = 2, 3, 5, 4, 2, 6, 4


def draw(*shape):
    return RNG.normal(size=shape).astype(np.float32)


q, k, w, v = draw(B, L, H, K), draw(B, S, G, K), draw(H, K, K), draw(H, K)
K_H = np.repeat(k, H // G, axis=2)  # the key of each query head


def looped(score):
    out = np.zeros((B, H, L, S))
    for b, h, t, s in np.ndindex(B, H, L, S):
        out[b, h, t, s] = score(b, h, t, s)
    return out


def same(got, wanted):
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def test_dot():
    same(scores.dot(q, k), looped(lambda b, h, t, s: q[b, t, h] @ K_H[b, s, h]))


def test_general_on_either_side():
    wanted = looped(lambda b, h, t, s: q[b, t, h] @ w[h] @ K_H[b, s, h])
    same(scores.dot(q, scores.general(K_H, w)), wanted)
    same(scores.dot(scores.general(q, np.swapaxes(w, 1, 2)), k), wanted)


def test_cosine():
    norm = np.linalg.norm
    wanted = lambda b, h, t, s: q[b, t, h] @ K_H[b, s, h] / norm(q[b, t, h]) / norm(K_H[b, s, h])
    same(scores.dot(scores.unit(q), scores.unit(k)), looped(wanted))
    value, slope = jax.value_and_grad(lambda x: jnp.sum(scores.unit(x)))(jnp.zeros((1, 1, 1, K)))
    assert value == 0 and np.isfinite(slope).all()


def test_additive():
    same(scores.additive(q, K_H, v), looped(lambda b, h, t, s: v[h] @ np.tanh(q[b, t, h] + K_H[b, s, h])))


@pytest.mark.parametrize("rows", [1, B])
def test_location(rows):
    of_place, position = draw(B, L, H, P), RNG.integers(0, P + 2, (rows, S))
    wanted = looped(lambda b, h, t, s: of_place[b, t, h, min(position[b % rows, s], P - 1)])
    same(scores.location(of_place, position), wanted)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_gives_float32_scores(dtype):
    low = lambda a: jnp.asarray(a, dtype)
    for got, wanted in (
        (scores.dot(low(q), low(k)), scores.dot(q, k)),
        (scores.additive(low(q), low(K_H), v), scores.additive(q, K_H, v)),
        (scores.dot(scores.unit(low(q)), scores.unit(low(k))), scores.dot(scores.unit(q), scores.unit(k))),
    ):
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, wanted, rtol=0.05, atol=0.1)
    assert scores.unit(low(q)).dtype == scores.general(low(q), w).dtype == dtype


def test_values_weighed_by_additive_scores_are_those_of_the_paper():
    """Bahdanau et al.: e = v . tanh(W s + U h), softmax, context."""
    values = draw(B, S, H, K)
    y = attention.weigh(scores.additive(q, K_H, v), values)
    for b, t, h in np.ndindex(B, L, H):
        e = np.tanh(q[b, t, h] + K_H[b, :, h]) @ v[h]
        np.testing.assert_allclose(y[b, t, h], np.exp(e) @ values[b, :, h] / np.exp(e).sum(), rtol=1e-4, atol=1e-5)
