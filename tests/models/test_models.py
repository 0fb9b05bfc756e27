"""What the laws do not say about models: heads, pooling, dropout, hybrids, and what they refuse."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from built import classes, logits
from decay import Decay
from flax import linen as nn
from gradients import drawn, init, run

from seqjax import spec
from seqjax.embed import Embed
from seqjax.embed.tokens import Tokens
from seqjax.mixers.attention import Attention
from seqjax.mixers.gru import GRU
from seqjax.mixers.lstm import LSTM
from seqjax.models._blocks import MLP
from seqjax.models.stack import Stack
from seqjax.tasks import Reads
from seqjax.training import cost

pytestmark = pytest.mark.usefixtures("compile_once")

TOKENS, FEATURES = spec.tokens(7, classes=3), spec.features(2, classes=3)
HEADS2 = functools.partial(Attention, heads=2)


def lm(**options):
    return Stack(**{"inputs": TOKENS, "head": logits(7), "width": 8, "layers": 2, "mixer": GRU, **options})


def classifier(inputs=TOKENS, **head):
    return Stack(inputs=inputs, head=classes(3, **head), width=8, layers=1, mixer=HEADS2)


def draw(spec, B, L):
    random = np.random.default_rng(B * L)
    return random.integers(0, 7, (B, L)) if spec.vocabulary else random.normal(size=(B, L, 2)).astype(np.float32)


@pytest.mark.parametrize("spec", [TOKENS, FEATURES], ids=["tokens", "features"])
@pytest.mark.parametrize(
    ("pool", "weights"),
    [
        *((pool, "softmax") for pool in ("mean", "last", "max")),
        *(("attention", weights) for weights in ("softmax", "sigmoid", "hard", "sparsemax", "entmax")),
    ],
)
def test_padding_changes_no_class(pool, weights, spec):
    model, x = classifier(pool=pool, weights=weights, inputs=spec), draw(spec, 2, 6)
    params = init(model, x)
    wanted, state = run(model, params, x)
    assert wanted.shape == (2, 3) and wanted.dtype == jnp.float32 and state is None
    padding = np.full((2, 3, *x.shape[2:]), 99, x.dtype)
    padded = np.concatenate([x[:, :2], padding, x[:, 2:], padding], axis=1)
    mask = np.array([[1, 1, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0]] * 2, bool)
    got, _ = run(model, params, padded, mask_BL=mask)
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def test_the_weights_of_pooling_are_handed_out():
    model, x = classifier(pool="attention", weights="sparsemax"), draw(TOKENS, 2, 6)
    mask = np.array([[1, 1, 1, 1, 1, 1], [1, 0, 1, 1, 0, 0]], bool)
    (_, _), found = run(model, init(model, x), x, mask_BL=mask, mutable=("intermediates",))
    weights_BL = found["intermediates"]["weights"][0]
    assert weights_BL.shape == mask.shape and not np.any(weights_BL[~mask])
    np.testing.assert_allclose(weights_BL.sum(axis=1), 1, rtol=1e-6)


def test_an_empty_row_has_a_class_all_the_same():
    model, x = classifier(), draw(TOKENS, 2, 4)
    logits, _ = run(model, init(model, x), x, mask_BL=np.array([[True] * 4, [False] * 4]))
    assert np.isfinite(logits).all()


def test_a_classifier_has_no_state_and_says_so():
    model, tokens_BL = classifier(), draw(TOKENS, 2, 4)
    with pytest.raises(ValueError, match="the head Pooled reads whole sequences, so this model has no state"):
        model.init_state(2)
    with pytest.raises(ValueError, match="cannot run step by step"):
        model.init(jax.random.key(0), tokens_BL, (jnp.zeros((2, 8)),))
    with pytest.raises(ValueError, match="Stack reads no second sequence: leave source_BS out"):
        model.prefill(tokens_BL)


def test_features_of_another_width_are_refused():
    model, x = classifier(inputs=FEATURES), draw(FEATURES, 2, 4)
    with pytest.raises(ValueError, match=r"features: got float32\[2, 4, 3\], the embedding wants \[B, L, 2\]"):
        model.init(jax.random.key(0), np.concatenate([x, x[..., :1]], axis=-1))


def test_a_prefix_language_model_knows_nothing_of_what_it_has_to_predict():
    """The logits for token t, beyond the prefix, are the same whatever token t and those after it are."""
    model, x, P, L = lm(mixer=(functools.partial(Attention, heads=2, prefix=4), GRU)), draw(TOKENS, 2, 9), 4, 9
    params = init(model, x)
    logits = run(model, params, x)[0]
    assert model.prefix == P
    for t in range(P, L):
        other = np.concatenate([x[:, :t], (x[:, t:] + 1) % 7], axis=1)
        np.testing.assert_allclose(run(model, params, other)[0][:, P - 1 : t], logits[:, P - 1 : t], atol=1e-6)
    ahead = x.copy()
    ahead[:, P - 1] = (ahead[:, P - 1] + 1) % 7
    assert np.any(np.abs(run(model, params, ahead)[0][:, 0] - logits[:, 0]) > 1e-3)


def test_a_tied_head_is_the_embedding():
    x = draw(TOKENS, 2, 4)
    tied, free = (init(lm(tie_embeddings=t), x)["params"] for t in (True, False))
    assert cost.count(free) - cost.count(tied) == 8 * 7 + 7
    with pytest.raises(ValueError, match=r"as many outputs as input tokens, got 6 .* a vocabulary of 7:"):
        lm(tie_embeddings=True, head=logits(6))
    with pytest.raises(ValueError, match="can share one table, got Tokens and Pooled"):
        lm(tie_embeddings=True, head=classes(7))
    with pytest.raises(ValueError, match="can share one table, got Features and Tokenwise"):
        lm(tie_embeddings=True, inputs=FEATURES)


def test_dropout_is_drawn_only_when_asked_for():
    model, x = lm(dropout=0.5), draw(TOKENS, 2, 4)
    params = init(model, x)
    call = lambda **kwargs: run(model, params, x, **kwargs)[0]
    drop = lambda seed: call(deterministic=False, rngs={"dropout": jax.random.key(seed)})
    np.testing.assert_array_equal(call(), call())
    np.testing.assert_array_equal(drop(1), drop(1))
    assert np.any(drop(1) != drop(2)) and np.any(drop(1) != call())


def test_the_layers_of_a_hybrid_cycle_through_its_mixers():
    model = lm(layers=3, mixer=(GRU, HEADS2))
    state = model.init_state(5)
    assert [type(s).__name__ for s in state] == ["ArrayImpl", "KV", "ArrayImpl"]
    x = draw(TOKENS, 2, 4)
    params = init(model, x)["params"]
    one = lambda mixer: cost.count(init(lm(layers=1, mixer=mixer), x)["params"])
    none = 7 * 8 + 8 * 7 + 7 + 2 * 8  # embedding, head, last norm
    assert cost.count(params) == none + 2 * (one(GRU) - none) + (one(HEADS2) - none)


def test_a_side_input_reaches_the_mixers_that_read_it():
    """And no other; a missing one and an unknown one are errors. The laws run `stack(decay)`."""
    model, x = lm(mixer=(GRU, Decay)), draw(TOKENS, 2, 4)
    elapsed_BLF = np.ones((2, 4, 1), np.float32)
    params = init(model, x, elapsed_BLF=elapsed_BLF)
    y, _ = run(model, params, x, elapsed_BLF=elapsed_BLF)
    assert np.any(y != run(model, params, x, elapsed_BLF=2 * elapsed_BLF)[0])
    assert model.side == ("elapsed_BLF",) and lm().side == ()
    with pytest.raises(ValueError, match="Decay reads elapsed_BLF, and it is not given: choose a task that gives it"):
        model.apply(params, x)
    with pytest.raises(ValueError, match="got elapsed_BLF, but the mixers of this model read no side input"):
        jax.eval_shape(functools.partial(lm().init, elapsed_BLF=elapsed_BLF), jax.random.key(0), x)
    reads = Reads(x, x >= 0, side={"elapsed_BLF": elapsed_BLF, "other_BL": x})
    assert set(reads.keywords(model)) == {"mask_BL", "reset_BL", "elapsed_BLF"}
    assert set(reads.keywords(lm())) == {"mask_BL", "reset_BL"}


class Both(Embed):
    """A vector per token and one of the time that has passed."""

    @nn.compact
    def __call__(self, x, mask_BL=None, deterministic=True):
        given = dict(inputs=self.inputs, width=self.width)
        return Tokens(**given)(x["tokens"], mask_BL)[0] + nn.Dense(self.width)(x["elapsed"]), mask_BL


def test_an_embedding_may_read_several_fields():
    model, elapsed = lm(embed=Both), np.random.default_rng(0).random((2, 4, 1)).astype(np.float32)
    x = {"tokens": draw(TOKENS, 2, 4), "elapsed": elapsed}
    params = init(model, x)
    y, _ = run(model, params, x)
    first, state = run(model, params, {name: a[:, 0] for name, a in x.items()}, model.init_state(2), method="step")
    np.testing.assert_allclose(first, y[:, 0], atol=1e-5)
    assert np.any(y != run(model, params, x | {"elapsed": 2 * elapsed})[0])
    assert jax.tree.structure(state) == jax.tree.structure(model.init_state(2))


def test_layers_do_not_share_parameters():
    params = init(lm(), draw(TOKENS, 2, 4))["params"]
    first, second = (params[f"blocks_{i}"]["mixer"]["recurrent"] for i in range(2))
    assert np.any(first != second)


def test_half_precision_keeps_parameters_and_logits_in_float32():
    model, x = lm(dtype="bfloat16", mixer=(LSTM, HEADS2)), draw(TOKENS, 2, 4)
    params = init(model, x)
    assert {a.dtype for a in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    logits, _ = run(model, params, x)
    near, _ = run(lm(mixer=(LSTM, HEADS2)), params, x)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, near, atol=0.1)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: lm(width=0, dropout=1.5, norm="batch"), r"width: got 0.*dropout: got 1\.5.*norm: got 'batch'"),
        (lambda: lm(mixer=functools.partial(Attention, heads=3)), "heads=3 does not divide model.width=8"),
        (lambda: lm(mixer=()), "empty list"),
        (
            lambda: lm(layers=2, mixer=(GRU, GRU, GRU)),
            r"model\.mixer lists 3 mixers, .* number of layers is 2: shorten the list, or set .* to at least 3",
        ),
        (
            lambda: lm(expansion=0.1),
            r"model.expansion=0.1 times model.width=8 is less than one feature: raise model.expansion, or set it to 0",
        ),
        (lambda: classifier(weights="hard"), "head.weights='hard' needs task.head.pool='attention', got 'mean'"),
        (lambda: classifier(pool="sum"), "pool: got 'sum', wanted one of 'mean'"),
    ],
)
def test_options_that_are_refused(build, words):
    with pytest.raises(ValueError, match=words):
        build()


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


@pytest.mark.parametrize(
    ("form", "act"),
    [("geglu", lambda v: v * sigmoid(1.5957691 * (v + 0.044715 * v**3))), ("swiglu", lambda v: v * sigmoid(v))],
)
def test_gated_mlps_multiply_two_layers(form, act):
    module, x = MLP(4, 1.5, form, "float32"), np.random.default_rng(0).normal(size=(1, 3, 4)).astype(np.float32)
    params = drawn(module, x)
    up, gate, down = (params["params"][name] for name in ("up", "gate", "down"))
    hidden = act(x @ gate["kernel"] + gate["bias"]) * (x @ up["kernel"] + up["bias"])
    assert hidden.shape == (1, 3, 6)
    np.testing.assert_allclose(run(module, params, x), hidden @ down["kernel"] + down["bias"], atol=1e-5)


@pytest.mark.parametrize("locked", [True, False])
def test_locked_dropout_draws_one_mask_per_row(locked):
    """On the embeddings, on the outputs of mixers, and on what the head reads; AWD-LSTM: Merity et al. 2017."""
    model = lm(head=logits(8), dropout=0.5, output_dropout=0.5, locked_dropout=locked, expansion=0)
    x = draw(TOKENS, 3, 40)
    params = init(model, x)
    params["params"]["head"] = {"kernel": jnp.eye(8), "bias": jnp.zeros(8)}  # the prediction is what the head reads
    flags = dict(deterministic=False, rngs={"dropout": jax.random.key(1)}, mutable=["activations", "features"])
    (prediction, _), sown = model.apply(params, x, **flags)
    pairs = [pair for (pair,) in jax.tree.leaves(sown["activations"], is_leaf=lambda leaf: isinstance(leaf, tuple))]
    pairs.append((sown["features"]["read"][0], prediction))
    assert len(pairs) == 3
    for before_BLD, after_BLD in pairs:
        kept_BLD = np.asarray(after_BLD != 0)
        np.testing.assert_allclose(after_BLD, np.where(kept_BLD, 2 * before_BLD, 0), rtol=1e-6)
        assert 0 < kept_BLD.mean() < 1 and (kept_BLD == kept_BLD[:, :1]).all() == locked
        assert not (kept_BLD[0] == kept_BLD[1]).all()


def test_embedding_dropout_drops_ids():
    """The vectors of an id are kept everywhere in the batch, or nowhere; as a head, the table is whole."""
    embedding, x = Tokens(inputs=spec.tokens(50), width=4, dropout=0.3, tied=True), draw(TOKENS, 4, 30) * 7
    params = init(embedding, x)
    table = params["params"]["embedding"]
    found_BLD, _ = embedding.apply(params, x, deterministic=False, rngs={"dropout": jax.random.key(0)})
    kept_BL = np.asarray(found_BLD != 0).any(axis=-1)
    np.testing.assert_allclose(found_BLD, np.where(kept_BL[..., None], table[x] / 0.7, 0), rtol=1e-6)
    assert {len(set(kept_BL[x == id])) for id in np.unique(x)} == {1} and len(set(kept_BL.ravel())) == 2
    np.testing.assert_allclose(run(embedding, params, found_BLD, method="attend"), found_BLD @ table.T, rtol=1e-5)
