"""The evaluator of sets of labels: thresholds come from validation, and everything else from a library."""

import json

import numpy as np
import pytest

from seqjax.data import Loader
from seqjax.data.table import Source
from seqjax.evaluators.multi_label import MultiLabel
from seqjax.heads.pooled import Pooled
from seqjax.models import Model
from seqjax.tasks.classification import Classification
from seqjax.tasks.multi_label import MultiLabel as Task
from seqjax.training.parallel import Parallel

NAMES = ("joy", "fear", "awe")
RNG = np.random.default_rng(1)


class Echo(Model):
    """Its logits are the first step of the features."""

    def __call__(self, x, state=None, *, mask_BL=None, reset_BL=None, deterministic=True):
        return x[:, 0], state


def records(n):
    logits = RNG.normal(size=(n, 3)).round(2)
    labels = RNG.random((n, 3)) < 1 / (1 + np.exp(2 - 2 * logits))
    return [
        {"x": [row.tolist()], "y": [name for name, has in zip(NAMES, marks, strict=True) if has]}
        for row, marks in zip(logits, labels, strict=True)
    ]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder, paths = tmp_path_factory.mktemp("labels"), {}
    for split, n in {"train": 30, "validation": 50, "test": 41}.items():
        paths[split] = str(folder / f"{split}.jsonl")
        with open(paths[split], "w") as file:
            file.writelines(json.dumps(record) + "\n" for record in records(n))
    return Source(**paths, features="x", labels="y")


def evaluated(source, split, **options):
    parts = dict(model=Echo(inputs=source.spec, head=Pooled), task=Task(spec=source.spec), source=source, seed=0)
    one = MultiLabel(**parts, loader=Loader(batch_size=8), **options).over(split, Parallel().layout(8, 1))
    written, seen = {}, []
    found = one({}, 7, on_batch=seen.append, give_up=lambda: False, write=lambda *file: written.update([file]))
    assert seen == list(range(1, one.count + 1))
    assert one({}, 7, on_batch=seen.append, give_up=lambda: True, write=None) is None
    return found, written["thresholds.json"]


def arrays(source, split):
    examples = [source.example(split, i) for i in range(source.size(split))]
    score = 1 / (1 + np.exp(-np.array([e["features"][0] for e in examples])))
    return score, np.array([e["labels"] for e in examples])


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("kind", ["each", "shared"])
def test_f1_is_that_of_the_best_thresholds_of_validation(source, split, kind):
    library = pytest.importorskip("sklearn.metrics")
    found, written = evaluated(source, split, thresholds=kind)
    assert source.classes == ("awe", "fear", "joy") == tuple(written["thresholds"]) and written["step"] == 7
    threshold = np.array([*written["thresholds"].values()])
    assert kind == "each" or len(set(threshold)) == 1
    score, labels = arrays(source, split)
    for name, average in {"micro": "micro", "macro": "macro", "sample": "samples"}.items():
        wanted = library.f1_score(labels, score >= threshold, average=average, zero_division=1)
        assert found[f"multi_label_{name}_f1"] == pytest.approx(wanted, rel=1e-6)
    wanted = library.average_precision_score(labels, score, average="macro")
    assert found["multi_label_average_precision"] == pytest.approx(wanted)
    assert found.keys() == MultiLabel.metrics.keys()
    score, labels = arrays(source, "validation")
    f1 = lambda t, average: library.f1_score(labels, score >= t, average=average)
    tried = [[t] * 3 for t in np.linspace(0.05, 0.95, 40)]
    best = "macro" if kind == "each" else "micro"
    assert f1(threshold, best) >= max(f1(t, best) for t in tried) - 1e-9
    assert written == evaluated(source, "test" if split == "validation" else "validation", thresholds=kind)[1]


def test_what_it_does_not_fit_is_refused(source, tmp_path):
    (tmp_path / "t.csv").write_text("t,y\na,p\nb,q")
    other = Source(train=str(tmp_path / "t.csv"), text="t", label="y")
    parts = lambda s, task: dict(
        model=Echo(inputs=s.spec, head=Pooled), task=task(spec=s.spec), source=s, seed=0, loader=Loader(batch_size=8)
    )
    with pytest.raises(ValueError, match="Classification predicts no sets of labels: remove the evaluator"):
        MultiLabel(**parts(other, Classification))
    (tmp_path / "u.csv").write_text('t,y\na,"p,q"\nb,q')
    other = Source(train=str(tmp_path / "u.csv"), text="t", labels="y")
    with pytest.raises(ValueError, match="thresholds are chosen on validation, and these data have none"):
        MultiLabel(**parts(other, Task))
