"""Sets of labels: the loss against a loop, F1 against scikit-learn."""

import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import metrics, spec
from seqjax.spec import Field, Spec
from seqjax.tasks.multi_label import MultiLabel

RNG = np.random.default_rng(0)
N, C = 200, 5
SPEC = Spec({"tokens": Field("ids", size=9), "labels": Field("bool", axis=None, shape=(C,))}, {"L": 3})
LOGITS = RNG.normal(size=(N, C)).astype(np.float32)
LABELS = RNG.random((N, C)) < 1 / (1 + np.exp(-LOGITS + np.array([2, 2, 0, 3, 1])))
AVERAGES = {"micro_f1": "micro", "macro_f1": "macro", "sample_f1": "samples"}


def test_the_loss_is_the_mean_over_labels_and_f1_that_of_scikit_learn():
    f1_score = pytest.importorskip("sklearn.metrics").f1_score
    weight = (np.arange(N) < 150).astype(np.float32)
    batch = {"labels": jnp.asarray(LABELS), "weight": jnp.asarray(weight)}
    task = MultiLabel(spec=SPEC, threshold=0.4)
    got = {name: value.mean() for name, value in task.loss(jnp.asarray(LOGITS), batch).items()}
    p = 1 / (1 + np.exp(-LOGITS[:150].astype(np.float64)))
    nll = [-np.log(p[n, c] if LABELS[n, c] else 1 - p[n, c]) for n in range(150) for c in range(C)]
    wanted = {"loss": np.mean(nll)}
    for name, average in AVERAGES.items():
        wanted[name] = f1_score(LABELS[:150], p >= 0.4, average=average, zero_division=1)
    assert not LABELS[:150].any(axis=1).all()  # some have no label
    assert got == pytest.approx(wanted, rel=1e-5) and got.keys() == task.metrics.keys() and task.outputs() == C


def test_average_precision_is_that_of_scikit_learn():
    library = pytest.importorskip("sklearn.metrics").average_precision_score
    for score in (LOGITS, np.round(LOGITS, 1)):  # with ties, too
        assert metrics.average_precision(score, LABELS) == pytest.approx(library(LABELS, score, average="macro"))
    empty = np.zeros((N, 1), bool)
    assert metrics.average_precision(LOGITS, np.hstack([LABELS[:, 1:], empty])) == pytest.approx(
        library(LABELS[:, 1:], LOGITS[:, :-1], average="macro")
    )
    assert np.isnan(metrics.average_precision(LOGITS[:, :1], empty))


def test_no_threshold_has_a_higher_f1():
    def f1(score, labels, threshold):
        chosen = score >= threshold
        return 2 * (chosen & labels).sum() / (chosen.sum() + labels.sum())

    for score in (LOGITS, np.round(LOGITS, 1)):
        best = metrics.best_thresholds(score, LABELS)
        for c in range(C):
            tried = [f1(score[:, c], LABELS[:, c], t) for t in [*score[:, c], np.inf]]
            assert f1(score[:, c], LABELS[:, c], best[c]) == pytest.approx(max(tried))
    assert metrics.best_thresholds(LOGITS[:, :1], np.zeros((N, 1), bool)) == np.inf


def test_data_without_sets_of_labels_are_refused():
    with pytest.raises(ValueError, match="needs the field labels, this source has tokens, label: choose other data"):
        MultiLabel(spec=spec.tokens(7, classes=2))
