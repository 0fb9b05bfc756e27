"""A classifier of pairs: against numpy, what padding changes (nothing), which text is which, and what it refuses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from built import classes, logits

from seqjax import spec
from seqjax.mixers.bidirectional import Bidirectional
from seqjax.mixers.cnn import CNN
from seqjax.mixers.cross_attention import CrossAttention
from seqjax.mixers.gru import GRU
from seqjax.mixers.interactive import Interactive
from seqjax.models.pair import Pair
from seqjax.tasks import Reads
from seqjax.tasks.classification import Classification

V, D, C = 7, 8, 3
SPEC = spec.tokens(V, 4, source=(V, 5), classes=C)
TEXT_BL, MASK_BL = np.array([[1, 2, 3, 4], [6, 5, 0, 0]], np.int32), np.array([[1, 1, 1, 1], [1, 1, 0, 0]], bool)
SOURCE_BS, MASK_BS = (
    np.array([[2, 2, 1, 0, 0], [4, 3, 5, 6, 1]], np.int32),
    np.array([[1] * 3 + [0] * 2, [1] * 5], bool),
)
BOTH = dict(source_BS=SOURCE_BS, source_mask_BS=MASK_BS, mask_BL=MASK_BL)
POINTWISE = functools.partial(CNN, kernel_sizes=(1,))
OPTIONS = {
    "siamese": dict(mixer=functools.partial(Bidirectional, mixer=GRU)),
    "esim": dict(
        mixer=functools.partial(Bidirectional, mixer=GRU),
        interaction=functools.partial(Interactive, causal=False),
        composition_layers=1,
    ),
    "decomposable": dict(mixer=POINTWISE, interaction=functools.partial(CrossAttention, heads=2)),
}


def made(**options):
    return Pair(**{"inputs": SPEC, "head": classes(C), "width": D, "layers": 1, "expansion": 1.0, **options})


@functools.cache
def trained(name):
    """A model, and parameters without zeros."""
    model = made(**OPTIONS[name])
    params = jax.jit(model.init)(jax.random.key(0), TEXT_BL, **BOTH)
    draw = np.random.default_rng(0)
    return model, jax.tree.map(lambda p: p + 0.1 * draw.normal(size=p.shape).astype(np.float32), params)


def test_a_siamese_network_against_numpy():
    model = made(mixer=POINTWISE, expansion=0, norm="rms", head=classes(C, pool="max"))
    params = model.init(jax.random.key(1), TEXT_BL, **BOTH)
    p = jax.tree.map(np.asarray, params["params"])
    rms = lambda q, x: x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-6) * q["scale"]
    dense = lambda q, x: x @ q["kernel"] + q["bias"]

    def encode(ids):
        x, block = p["embedding"]["embedding"][ids], p["blocks_0"]
        mixer = block["mixer"]
        x = x + np.maximum(rms(block["norm_mixer"], x) @ mixer["kernel_0"][0] + mixer["bias"], 0)
        return rms(p["norm_out"], x).max(axis=0)

    for row in range(2):
        u, v = encode(TEXT_BL[row][MASK_BL[row]]), encode(SOURCE_BS[row][MASK_BS[row]])
        h = np.asarray(jax.nn.gelu(dense(p["compare"], np.concatenate([u, v, abs(u - v), u * v]))))
        got = model.apply(params, TEXT_BL, **BOTH)[0][row]
        np.testing.assert_allclose(got, dense(p["head"], h), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", OPTIONS)
def test_padding_of_either_text_changes_nothing(name):
    model, params = trained(name)
    apply = jax.jit(model.apply)
    whole = apply(params, TEXT_BL, **BOTH)[0]
    other = dict(BOTH, source_BS=np.where(MASK_BS, SOURCE_BS, 3))
    np.testing.assert_array_equal(apply(params, np.where(MASK_BL, TEXT_BL, 3), **other)[0], whole)
    alone = dict(source_BS=SOURCE_BS[:1, :3], source_mask_BS=MASK_BS[:1, :3], mask_BL=MASK_BL[:1])
    np.testing.assert_allclose(model.apply(params, TEXT_BL[:1], **alone)[0][0], whole[0], rtol=1e-4, atol=1e-5)
    changed = apply(params, TEXT_BL, **dict(BOTH, source_BS=np.where(np.arange(5) == 0, 6, SOURCE_BS)))[0]
    assert (np.abs(changed - whole) > 1e-4).any(axis=1).all()


@pytest.mark.parametrize("name", OPTIONS)
def test_swapping_the_texts_swaps_their_vectors(name):
    """Both are read by the same encoder, and each reads the other as it was before."""
    model, params = trained(name)
    swapped = dict(source_BS=TEXT_BL, source_mask_BS=MASK_BL, mask_BL=MASK_BS)
    kernel = params["params"]["compare"]["kernel"]
    turned = {"params": params["params"] | {"compare": dict(params["params"]["compare"])}}
    turned["params"]["compare"]["kernel"] = jnp.concatenate([kernel[D : 2 * D], kernel[:D], kernel[2 * D :]])
    wanted = model.apply(params, TEXT_BL, **BOTH)[0]
    np.testing.assert_allclose(model.apply(turned, SOURCE_BS, **swapped)[0], wanted, rtol=1e-4, atol=1e-5)
    assert np.abs(model.apply(params, SOURCE_BS, **swapped)[0] - wanted).max() > 1e-3  # it knows which is which


def test_the_task_gives_it_both_texts():
    batch = {"tokens": TEXT_BL, "mask": MASK_BL, "source": SOURCE_BS, "mask_S": MASK_BS}
    reads = Classification(spec=SPEC).reads(batch)
    assert isinstance(reads, Reads) and reads.keywords(made(**OPTIONS["siamese"])).keys() == {"reset_BL", *BOTH}


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(inputs=spec.tokens(V, 4, classes=C)), "the examples of this data have no source: name its column"),
        (dict(inputs=spec.tokens(V, 4, source=(9, 5))), "one embedding, but they have 7 and 9 ids: choose data with"),
        (dict(interaction=GRU), "GRU in model.interaction does not read a memory: choose a mixer that does"),
        (dict(mixer=CrossAttention), "CrossAttention reads a memory, and an encoder has none"),
        (dict(head=logits(C)), "compares one vector per text, which Tokenwise does not make: choose a task"),
        (dict(composition_layers=-1), "composition_layers: got -1, wanted an int of at least 0"),
    ],
)
def test_what_does_not_fit_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        made(**{"mixer": GRU, **options})


def test_it_has_no_state():
    model, params = trained("siamese")
    with pytest.raises(ValueError, match="Pooled reads whole sequences, so this model has no state"):
        model.apply(params, TEXT_BL, (), **BOTH)
