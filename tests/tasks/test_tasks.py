"""Losses and metrics against a loop; masks and weights count as they should."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import lookup, spec
from seqjax.spec import Field, Spec
from seqjax.tasks.classification import Classification
from seqjax.tasks.next_token import NextToken
from seqjax.training import evaluate
from seqjax.types import ConfigError

RNG = np.random.default_rng(0)
B, L, V = 4, 6, 5
SPEC = spec.tokens(V, L, classes=V, unit="character")


def batch():
    return {
        "tokens": RNG.integers(0, V, (B, L)),
        "mask": np.arange(L) < np.array([6, 3, 0, 5])[:, None],
        "weight": np.array([1, 1, 1, 0], np.float32),
        "label": RNG.integers(0, V, B),
        "scored": RNG.random((B, L)) > 0.4,
    }


def log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


@pytest.mark.parametrize("scored", [False, True])
def test_next_token(scored):
    data, logits = batch(), RNG.normal(size=(B, L - 1, V))
    if not scored:
        del data["scored"]
    nll, right, rows = [], [], []
    for b in range(B):
        row = []
        for t in range(1, L):
            if data["mask"][b, t] and data["weight"][b] and (not scored or data["scored"][b, t]):
                target = data["tokens"][b, t]
                nll.append(-log_softmax(logits[b, t - 1])[target])
                row.append(logits[b, t - 1].argmax() == target)
        right += row
        rows += [all(row)] if row else []  # only rows in which something is scored
    task = NextToken(spec=SPEC)
    reads = task.reads(data)
    assert reads.x.shape == reads.mask_BL.shape == (B, L - 1)
    assert reads.side == {}
    got = {k: v.mean() for k, v in task.loss(jnp.asarray(logits, jnp.float32), jax.tree.map(jnp.asarray, data)).items()}
    assert got["loss"] == pytest.approx(np.mean(nll), rel=1e-5)
    assert got["bits_per_character"] == pytest.approx(np.mean(nll) / np.log(2), rel=1e-5)
    assert got["accuracy"] == pytest.approx(np.mean(right))
    assert ("exact_match" in got) == scored
    if scored:
        assert got["exact_match"] == pytest.approx(np.mean(rows))


def test_the_first_token_of_a_document_is_not_asked_for():
    data, logits = batch(), jnp.asarray(RNG.normal(size=(B, L - 1, V)), jnp.float32)
    reset_BL = np.zeros((B, L), bool)
    reset_BL[0, [0, 3, 4]] = reset_BL[1, 2] = True
    task, marked = NextToken(spec=SPEC), {**data, "reset": reset_BL}
    gone = {**data, "scored": data["scored"] & ~reset_BL}
    for name, ratio in task.loss(logits, jax.tree.map(jnp.asarray, gone)).items():
        np.testing.assert_allclose(task.loss(logits, jax.tree.map(jnp.asarray, marked))[name], ratio, rtol=1e-6)
    assert task.reads(data).reset_BL is None
    np.testing.assert_array_equal(task.reads(marked).reset_BL, reset_BL[:, :-1])


def test_what_is_given_is_not_asked_for():
    """The first tokens of each document, counted without what is masked."""
    data, logits = batch(), jnp.asarray(RNG.normal(size=(B, L - 1, V)), jnp.float32)
    data["mask"][0, 1] = False
    data["reset"] = np.zeros((B, L), bool)
    data["reset"][0, 3] = True
    place = np.zeros((B, L), int)
    for b in range(B):
        count = 0
        for t in range(L):
            count = 0 if data["reset"][b, t] else count
            place[b, t] = count
            count += data["mask"][b, t]
    gone = {**data, "scored": data["scored"] & (place >= 2)}
    for name, ratio in NextToken(spec=SPEC).loss(logits, jax.tree.map(jnp.asarray, gone)).items():
        got = NextToken(spec=SPEC, prompt_length=2).loss(logits, jax.tree.map(jnp.asarray, data))[name]
        np.testing.assert_allclose(got, ratio, rtol=1e-6)
    with pytest.raises(ValueError, match=r"task\.prompt_length=2 counts from the start of a document"):
        NextToken(spec=SPEC, prompt_length=2, carry_state=True)


def test_classification():
    data, logits = batch(), RNG.normal(size=(B, V))
    got = Classification(spec=SPEC).loss(jnp.asarray(logits, jnp.float32), jax.tree.map(jnp.asarray, data))
    nll = [-log_softmax(logits[b])[data["label"][b]] for b in range(3)]
    assert got["loss"].mean() == pytest.approx(np.mean(nll), rel=1e-5)
    assert got["accuracy"].mean() == pytest.approx(np.mean(logits[:3].argmax(-1) == data["label"][:3]))


F, H = 2, 3
MANY = {"tokens": Field("ids", size=V), "label": Field("ids", size=V, axis=None), "tags": Field("ids", size=V)}
MANY["labels"] = Field("bool", axis=None, shape=(V,))
SERIES = {"features": Field("real", shape=(F,)), "future": Field("real", axis=None, shape=(H, F))}


def made(name, **more):
    """A task, data of which it can ask something, and a prediction of zeros; `more`: further fields of the data."""
    fields = {**(SERIES if name == "forecast" else MANY), **more}
    task = importlib.import_module(f"seqjax.tasks.{name}").Task(spec=Spec(fields, {"L": L}))
    rows = {"features": (B, L, F), "future": (B, H, F)}
    data = {
        **batch(),
        "labels": RNG.random((B, V)) > 0.5,
        "tags": RNG.integers(0, V, (B, L)),
        **{name: RNG.normal(size=s) for name, s in rows.items()},
    }
    data = {key: jnp.asarray(a) for key, a in data.items() if key in (*fields, "mask", "weight")}
    head = task.head(inputs=task.spec, outputs=task.outputs(), width=4)
    x = jnp.zeros((B, task.length(L), *([] if head.density else [4])))
    shape = jax.eval_shape(lambda: head.init_with_output(jax.random.key(0), x))[0].shape
    return task, data, jnp.zeros(shape)


@pytest.mark.parametrize("name", lookup.names("seqjax.tasks"))
def test_a_batch_that_weighs_nothing_has_a_finite_loss_without_gradient(name):
    task, data, prediction = made(name)
    data["weight"] = jnp.zeros(B)
    total, gradient = jax.value_and_grad(lambda p: task.loss(p, data)["loss"].total)(prediction + 3)
    assert total == 0 and not np.any(gradient)


@pytest.mark.parametrize("name", lookup.names("seqjax.tasks"))
def test_the_length_is_that_of_what_is_read(name):
    task, data, _ = made(name)
    reads = task.reads(data)
    assert reads.x.shape[:2] == reads.mask_BL.shape == (B, task.length(L))


@pytest.mark.parametrize("name", lookup.names("seqjax.tasks"))
@pytest.mark.parametrize("scored", [False, True])
def test_the_declared_metrics_are_those_of_the_loss(name, scored):
    task, data, prediction = made(name, **({"scored": Field("bool")} if scored else {}))
    metrics = task.loss(prediction, data)
    assert metrics.keys() == task.metrics.keys() and task.monitor in metrics
    terms = {"loss": metrics["loss"]}
    assert task.checked(terms, metrics) == metrics
    with pytest.raises(ConfigError, match=r"declares .*loss.*: declare in `metrics` exactly what it returns"):
        task.checked(terms, {**metrics, "other": metrics["loss"]})
    if len(metrics) > 1:
        with pytest.raises(ConfigError, match="returned the metrics loss, but declares"):
            task.checked(terms, terms)
    with pytest.raises(ConfigError, match="returned the terms none, but declares loss"):
        task.checked({}, metrics)


def test_tasks_refuse_data_that_they_cannot_use():
    with pytest.raises(ValueError, match="this source has features"):
        NextToken(spec=spec.features(2))
    with pytest.raises(ValueError, match="this source has none"):
        Classification(spec=spec.tokens(2))


def test_next_token_refuses_what_leaves_nothing_to_predict():
    with pytest.raises(ValueError, match="has 1 token, which leaves nothing to predict: give longer ones"):
        NextToken(spec=spec.tokens(2, 1))
    with pytest.raises(ValueError, match=r"task\.prompt_length=6 leaves no token .* has 6: choose at most 5"):
        NextToken(spec=SPEC, prompt_length=L)
    data = jax.tree.map(jnp.asarray, {**batch(), "mask": np.ones((B, L), bool)})
    del data["scored"]
    assert (
        NextToken(spec=SPEC, prompt_length=L - 1).loss(jnp.zeros((B, L - 1, V)), data)["loss"].weight == 3
    )  # of 4 rows


def test_a_monitor_is_a_declared_metric():
    class Ranking(Classification):
        metrics = {**Classification.metrics, "ndcg_10": "more"}

    judged = lambda task, **evaluators: evaluate.metrics({"evaluators": None} | evaluators, task)
    assert judged(Ranking(spec=SPEC, monitor="ndcg_10")) == Ranking.metrics
    with pytest.raises(
        ConfigError, match=r"monitor='quality' is not a metric\. It has loss, accuracy, macro_f1, ndcg_10"
    ):
        judged(Ranking(spec=SPEC, monitor="quality"))
    with pytest.raises(ConfigError, match=r"monitor='quality' is not a metric\. .* ndcg_10, generate_exact_match, "):
        judged(Ranking(spec=SPEC, monitor="quality"), evaluators=[{"name": "generate"}])
    Ranking.metrics = {"loss": "down"}
    with pytest.raises(ValueError, match=r"metrics of Ranking: got .*, wanted names, each with one of 'more', 'less'"):
        Ranking(spec=SPEC, monitor="loss")
    with pytest.raises(ConfigError, match="Did you mean 'accuracy'"):
        judged(NextToken(spec=SPEC, monitor="acuracy"))


def test_a_source_is_given_to_the_model_where_there_is_one():
    task, data = NextToken(spec=SPEC), batch()
    pairs = {**data, "source": RNG.integers(0, V, (B, 3)), "mask_S": RNG.random((B, 3)) > 0.5}
    given = task.reads(pairs).side
    assert set(given) == {"source_BS", "source_mask_BS"}
    np.testing.assert_array_equal(given["source_BS"], pairs["source"])
    np.testing.assert_array_equal(given["source_mask_BS"], pairs["mask_S"])


def test_regularized_activations():
    """AR of what is dropped, TAR of neighbours in a document that are read, over all blocks; a loop adds them up."""
    task = NextToken(spec=SPEC, activation_regularization=2.0, temporal_activation_regularization=1.0)
    data = jax.tree.map(jnp.asarray, {key: value for key, value in batch().items() if key != "scored"})
    data["reset"] = jnp.zeros((B, L), bool).at[0, 3].set(True)
    h, dropped = (RNG.normal(size=(2, B, L - 1, 3)).astype(np.float32) for _ in range(2))
    logits = jnp.asarray(RNG.normal(size=(B, L - 1, V)), jnp.float32)

    def net(reads, carry, sown):
        return logits, carry, {sown[0]: {f"blocks_{i}": {"mixed": ((h[i], dropped[i]),)} for i in range(2)}}

    AR, TAR = [], []
    for b in range(B):
        read = [t for t in range(L - 1) if data["mask"][b, t] and data["weight"][b]]
        AR += [np.mean(dropped[:, b, t] ** 2) for t in read]
        TAR += [np.mean((h[:, b, t] - h[:, b, t - 1]) ** 2) for t in read if t - 1 in read and (b, t) != (0, 3)]
    terms, metrics, _ = task.objective(net, data, None)
    found = task.checked(terms, metrics)
    assert task.terms == {"loss": 1.0, "activation_regularization": 2.0, "temporal_activation_regularization": 1.0}
    assert found["activation_regularization"].mean() == pytest.approx(np.mean(AR), rel=1e-5)
    assert found["temporal_activation_regularization"].mean() == pytest.approx(np.mean(TAR), rel=1e-5)
    for name, weight in task.weights(data).items():
        assert float(weight) == float(terms[name].weight) > 0


def test_what_has_no_mixers_is_not_regularized():
    task = NextToken(spec=SPEC, activation_regularization=2.0)
    net = lambda reads, carry, sown: (jnp.zeros((B, L - 1, V)), carry, {})
    net.model = SPEC
    with pytest.raises(ConfigError, match=r"Spec has no mixers whose outputs could be regularized: choose model\.name"):
        task.objective(net, jax.tree.map(jnp.asarray, batch()), None)
