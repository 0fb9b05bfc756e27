"""The laws of embeddings and heads: padding is nothing, and what stands under a mask changes nothing.

A new file in seqjax/embed or seqjax/heads is found here without an entry, if it has defaults and reads one field, or
`tokens` and `characters`. What needs other options has them in `OPTIONS`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import close, drawn, evaluate, run

from seqjax import lookup, spec
from seqjax.spec import Field, Spec

pytestmark = pytest.mark.usefixtures("compile_once")

B, L, D, V, F, C = 3, 6, 8, 7, 2, 5
MASK = np.array([[1, 1, 0, 1, 1, 0], [0, 1, 1, 0, 1, 1], [1, 0, 1, 1, 1, 0]], bool)  # four real tokens in each row
DATA = {"ids": spec.tokens(V), "real": spec.features(F)}
embeddings, heads = lookup.names("seqjax.embed"), lookup.names("seqjax.heads")
W = 5  # characters of a word
WORDS = {"tokens": Field("ids", size=V), "characters": Field("ids", size=9, shape=(W,))}
DATA[None] = Spec(WORDS, {"L": L})
# Frames of a waveform, two of the four real samples of a row.
FRAMES = dict(inputs=spec.features(1), window_length=3, hop_length=1, fft_length=8, mel_filters=2, normalise="none")
OPTIONS = {"log_mel": FRAMES, "mfcc": FRAMES | dict(coefficients=2)}


def embedding(name, dtype="float32"):
    make = lookup.find(name, "seqjax.embed", "Embed")
    return make(**{"inputs": DATA[make.kind], **OPTIONS.get(name, {})}, width=D, dtype=dtype)


def head(name, dtype="float32"):
    return lookup.find(name, "seqjax.heads", "Head")(inputs=DATA["ids"], outputs=C, width=D, dtype=dtype)


def inputs(module, kind):
    """An input, and two that are something else under the mask."""
    draw, shape = np.random.default_rng(0), (B, L)
    if kind is None:
        return [
            {name: np.stack([x] * W, axis=-1) if DATA[None].fields[name].shape else x for name in WORDS}
            for x in inputs(module, "ids")
        ]
    real = lambda: draw.normal(size=(*shape, module.inputs.features))
    x, noise = (draw.integers(0, V, shape), -1) if kind == "ids" else (real(), np.nan)
    x = x.astype(np.int32 if kind == "ids" else np.float32)
    return x, *(np.where(MASK.reshape(B, L, *(1,) * (x.ndim - 2)), x, other).astype(x.dtype) for other in (noise, V))


@pytest.mark.parametrize("name", embeddings)
def test_an_embedding_reads_no_masked_token(name):
    module = embedding(name)
    x, *others = inputs(module, module.kind)
    params = drawn(module, x)

    def f(params, x):
        y, mask = module.apply(params, x, MASK)
        return jnp.concatenate([jnp.where(mask[..., None], y, 0), mask[..., None].astype(y.dtype)], axis=-1)

    evaluated = functools.partial(evaluate, f, params)
    wanted = evaluated(x)
    for other in others:
        close(evaluated(other), wanted)
    y, kept = np.asarray(wanted[0])[..., :-1], np.asarray(wanted[0])[..., -1] > 0
    short = jax.tree.map(lambda a: a[MASK].reshape(B, 4, *a.shape[2:]), x)
    alone, mask = run(module, params, short)
    np.testing.assert_allclose(alone, y[kept].reshape(alone.shape), atol=1e-5)
    assert mask is None and alone.dtype == np.float32 and alone.shape[0] == B and alone.shape[2] == D
    assert alone.shape[1] == 4 and (kept == MASK).all() if name not in OPTIONS else alone.shape[1] == 2
    y, mask = jax.eval_shape(embedding(name, "bfloat16").apply, params, x, MASK)
    assert y.dtype == jnp.bfloat16 and mask.dtype == bool and mask.shape == y.shape[:2]


@pytest.mark.parametrize("name", [n for n in heads if not lookup.find(n, "seqjax.heads", "Head").density])
def test_a_head_reads_no_masked_token(name):
    module, x_BLD = head(name), np.random.default_rng(1).normal(size=(B, L, D)).astype(np.float32)
    params = drawn(module, x_BLD, MASK)
    read = lambda y: y.unary_BLC if module.joint else y  # what else it predicts is of no token
    evaluated = functools.partial(evaluate, lambda params, x: read(module.apply(params, x, MASK)), params)
    y, (by_params, by_x) = evaluated(x_BLD)
    noise = np.where(MASK[..., None], x_BLD, np.float32(1e6))  # finite, as after a norm
    other, (by_params_2, _) = evaluated(noise)
    close((other, by_params_2), (y, by_params))
    assert not np.any(np.asarray(by_x)[~MASK])
    alone = read(run(module, params, x_BLD[MASK].reshape(B, 4, D)))
    if module.stepwise:
        assert not np.any(np.asarray(y)[~MASK])
        y = np.asarray(y)[MASK].reshape(B, 4, C)
    np.testing.assert_allclose(y, alone, atol=1e-5)
    low = jax.tree.leaves(jax.eval_shape(head(name, "bfloat16").apply, params, x_BLD, MASK))
    assert all(leaf.dtype == jnp.float32 for leaf in low)


@pytest.mark.parametrize("name", [n for n in embeddings if lookup.find(n, "seqjax.embed", "Embed").tieable])
def test_what_can_be_tied_gives_its_vectors_as_logits(name):
    module = embedding(name)
    params, ids = drawn(module, np.zeros((1, V), np.int32)), np.arange(V, dtype=np.int32)[None]
    vectors_1VD, _ = run(module, params, ids)
    logits_1VV = run(module, params, vectors_1VD, method="attend")
    np.testing.assert_allclose(logits_1VV[0], vectors_1VD[0] @ vectors_1VD[0].T, atol=1e-5)
