"""Classes of sequences: what is reported, and what the options make training minimise, against loops and a library."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import spec
from seqjax.tasks.classification import Classification

RNG = np.random.default_rng(0)
B, C = 40, 4
COUNTS = (60, 5, 30, 5)
LABEL = RNG.choice(C, size=B, p=np.array(COUNTS) / 100)
LOGITS = RNG.normal(size=(B, C)).astype(np.float32) * 2
WEIGHT = (np.arange(B) < 30).astype(np.float32)
BATCH = {"label": jnp.asarray(LABEL), "weight": jnp.asarray(WEIGHT)}
made = functools.partial(Classification, spec=spec.tokens(9, 3, classes=C, counts=COUNTS))


def means(task, logits=LOGITS, batch=BATCH):
    return {name: value.mean() for name, value in task.loss(jnp.asarray(logits), batch).items()}


def by_hand(w=(1.0,) * C, smoothing=0.0, gamma=0.0, tau=0.0):
    total = weight = 0.0
    for b in range(30):
        z = LOGITS[b].astype(np.float64) + tau * np.log(np.array(COUNTS) / sum(COUNTS))
        p, y = np.exp(z) / np.exp(z).sum(), LABEL[b]
        q = (1 - smoothing) * np.eye(C)[y] + smoothing / C
        total += w[y] * (1 - p[y]) ** gamma * -np.sum(q * np.log(p))
        weight += w[y]
    return total / weight


W = (0.5, 2.0, 0.0, 1.0)


@pytest.mark.parametrize(
    "options, wanted",
    [
        (dict(class_weights=W), dict(w=W)),
        (dict(label_smoothing=0.1), dict(smoothing=0.1)),
        (dict(focal_gamma=2.0), dict(gamma=2.0)),
        (dict(focal_gamma=0.5), dict(gamma=0.5)),
        (dict(logit_adjustment=1.0), dict(tau=1.0)),
        (
            dict(class_weights=W, label_smoothing=0.2, focal_gamma=1.5, logit_adjustment=0.7),
            dict(w=W, smoothing=0.2, gamma=1.5, tau=0.7),
        ),
    ],
)
def test_training_minimises_what_the_docstring_says_and_the_loss_stays_comparable(options, wanted):
    plain, changed = means(made()), means(made(**options))
    assert changed.pop("training_loss") == pytest.approx(by_hand(**wanted), rel=1e-5)
    assert changed == plain and plain["loss"] == pytest.approx(by_hand(), rel=1e-5)
    assert made(**options).terms == {"training_loss": 1.0} and made().terms == {"loss": 1.0}


def test_class_weights_are_those_of_the_papers():
    library = pytest.importorskip("sklearn.utils.class_weight")
    examples = np.repeat(np.arange(C), COUNTS)
    balanced = library.compute_class_weight("balanced", classes=np.arange(C), y=examples)
    np.testing.assert_allclose(made(class_weights="balanced").weights_of_classes(), balanced, rtol=1e-6)
    number = [sum(0.999**i for i in range(n)) for n in COUNTS]  # a geometric sum
    wanted = np.array([1 / n for n in number]) / np.mean([1 / n for n in number])
    np.testing.assert_allclose(made(class_weights="effective_number").weights_of_classes(), wanted, rtol=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_the_focal_loss_of_a_certain_prediction_has_a_finite_gradient(gamma):
    logits = np.where(np.arange(C) == LABEL[:, None], 200.0, -200.0)
    task = made(focal_gamma=gamma)
    slope = jax.grad(lambda z: task.loss(z, BATCH)["training_loss"].total)(jnp.asarray(logits, jnp.float32))
    assert np.isfinite(slope).all()


def test_macro_f1_is_that_of_scikit_learn():
    f1_score = pytest.importorskip("sklearn.metrics").f1_score
    halves = [{**BATCH, "weight": jnp.asarray(WEIGHT * (np.arange(B) % 2 == part))} for part in (0, 1)]
    first, second = (made().loss(jnp.asarray(LOGITS), half)["macro_f1"] for half in halves)
    wanted = f1_score(LABEL[:30], LOGITS[:30].argmax(axis=1), average="macro")
    assert (first + second).mean() == pytest.approx(wanted, rel=1e-6)
    assert np.mean([first.mean(), second.mean()]) != pytest.approx(wanted, rel=1e-3)  # not the mean over batches


def test_what_is_refused():
    with pytest.raises(ValueError, match="class_weights has 2 numbers, the data have 4 classes: give one per class"):
        made(class_weights=(1.0, 2.0))
    silent = spec.tokens(9, 3, classes=C)
    for options in (dict(class_weights="balanced"), dict(logit_adjustment=1.0)):
        with pytest.raises(ValueError, match="number of examples of each class, which this source does not say"):
            Classification(spec=silent, **options)
    assert Classification(spec=silent, class_weights=W).spec.counts is None
