"""Logits of a large vocabulary, made in chunks, against the same logits as one array."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.ops import losses

B, L, D, V = 2, 7, 4, 5
SHAPES = {"BLD,DV->BLV": (D, V), "BLD,VD->BLV": (V, D)}


def score(logits_BLV, target_BL):
    right_BL = jnp.argmax(logits_BLV, axis=-1) == target_BL
    return losses.cross_entropy(logits_BLV, target_BL), right_BL.astype(jnp.float32)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("equation", SHAPES)
def test_chunks_are_the_whole_in_values_and_gradients(equation, dtype, monkeypatch):
    """Two or three tokens of both rows at a time, so that the last chunk is not full; one row has masked tokens."""
    random = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(random.normal(size=shape), jnp.float32)
    mask_BL = np.arange(L) < np.array([7, 4])[:, None]
    target_BL, slope_BL = random.integers(0, V, (B, L)), draw(B, L) * mask_BL
    given = draw(B, L, D), draw(*SHAPES[equation]), None if "VD" in equation else draw(V)

    def total(given, large):
        logits = losses.logits(*given, mask_BL, equation, dtype)
        assert isinstance(logits, losses.Logits) == large
        nll_BL, right_BL = losses.per_token(score, logits, target_BL)
        return jnp.sum(nll_BL * slope_BL), (nll_BL, right_BL)

    gradient = jax.value_and_grad(total, has_aux=True)
    (_, whole), slopes = gradient(given, False)
    monkeypatch.setattr(losses, "LARGE", B * L * V - 1)
    for chunk in (2, 3):
        monkeypatch.setattr(losses, "CHUNK", chunk * B * V)
        (_, parts), found = gradient(given, True)
        close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6 if dtype == "float32" else 0.02)
        jax.tree.map(close, (parts, found), (whole, slopes))


def test_they_become_an_array_where_one_is_needed(monkeypatch):
    monkeypatch.setattr(losses, "LARGE", 0)
    x_BLD, mask_BL = jnp.ones((1, 2, D)), jnp.array([[True, False]])
    logits = losses.logits(x_BLD, jnp.ones((D, V)), jnp.ones(V), mask_BL, "BLD,DV->BLV", "float32")
    assert logits.shape == (1, 2, V)
    np.testing.assert_array_equal(jnp.asarray(logits), [[[D + 1.0] * V, [0.0] * V]])
    np.testing.assert_array_equal(jnp.argmax(logits, axis=-1), [[0, 0]])


def test_memory():
    """16,384 tokens and a vocabulary of 30,000 make 2 GB of logits: both passes take a tenth, gradients included."""
    B, L, D, V = 128, 128, 64, 30_000
    shapes = (B, L, D), (D, V), (V,), (B, L)
    given = [jax.ShapeDtypeStruct(s, d) for s, d in zip(shapes, ["float32"] * 3 + ["int32"], strict=True)]

    def loss(x_BLD, weight_DV, bias_V, target_BL):
        logits = losses.logits(x_BLD, weight_DV, bias_V, None, "BLD,DV->BLV", "float32")
        return jnp.sum(losses.per_token(score, logits, target_BL)[0])

    program = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2))).lower(*given).compile()
    used = program.memory_analysis()
    assert used.temp_size_in_bytes + used.output_size_in_bytes < 200e6
