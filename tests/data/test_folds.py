"""k folds: disjoint, together all of train and validation; test is left alone."""

import functools

import numpy as np
import pytest

from seqjax import config
from seqjax.data.copy import Copy
from seqjax.data.folds import Folds
from seqjax.data.table import Table
from seqjax.training.experiment import resolve
from seqjax.types import ConfigError


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """11 records of train, 6 of validation, 3 of test, each with a text of its own."""
    folder = tmp_path_factory.mktemp("table")
    options = {"text": "text", "label": "class"}
    for split, size in (("train", 11), ("validation", 6), ("test", 3)):
        rows = [f"{split} {i},{'ab'[i % 2]}" for i in range(size)]
        (folder / f"{split}.csv").write_text("\n".join(["text,class", *rows]))
        options[split] = str(folder / f"{split}.csv")
    return functools.partial(Table, **options)


def texts(source, split) -> list[str]:
    return [source.decode(source.example(split, i)["tokens"]) for i in range(source.size(split))]


def test_each_example_is_held_out_once(table):
    inner = table()
    pool = sorted(texts(inner, "train") + texts(inner, "validation"))
    held = []
    for fold in range(4):
        source = Folds(of=table, folds=4, fold=fold)
        train, validation = texts(source, "train"), texts(source, "validation")
        assert sorted(train + validation) == pool
        assert len(validation) in (4, 5)
        assert texts(source, "test") == texts(inner, "test")
        held += validation
    assert sorted(held) == pool


def test_examples_keep_their_labels_and_the_rest_of_what_they_are(table):
    inner, source = table(), Folds(of=table, folds=3, fold=2)
    labels = {inner.decode(e["tokens"]): e["label"] for s in ("train", "validation") for i in range(inner.size(s))
              for e in [inner.example(s, i)]}  # fmt: skip
    for split in ("train", "validation"):
        for i, text in enumerate(texts(source, split)):
            assert source.example(split, i)["label"] == labels[text]
    assert source.classes == inner.classes and source.spec.vocabulary == inner.spec.vocabulary
    held = np.array([source.example("validation", i)["label"] for i in range(source.size("validation"))])
    train = np.array([source.example("train", i)["label"] for i in range(source.size("train"))])
    share = source.baselines("validation")["accuracy"]["majority class"]
    assert share == np.mean(held == np.bincount(train).argmax())


def test_the_seed_decides_the_folds(table):
    cut = lambda seed: texts(Folds(of=table, folds=3, seed=seed), "validation")
    assert cut(0) == cut(0) != cut(1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"folds": 3, "fold": 3}, "0 ... 2"),
        ({"folds": 18}, "17 examples"),
        ({"folds": 1}, "at least 2"),
        ({"of": Copy}, "without end"),
    ],
)
def test_what_cannot_be_cut(table, options, words):
    with pytest.raises(ValueError, match=words.replace("...", r"\.\.\.")):
        Folds(**{"of": table} | options)


def test_a_section_around_a_section(table):
    """As a config writes it; a wrong key inside is found."""
    data = {"name": "folds", "of": {"name": "table", **table.keywords}, "folds": 3}
    tree = {"data": data, "task": "classification", "model": {"name": "stack", "width": 8, "layers": 1,
            "mixer": "gru"}, "train": {"steps": 1}}  # fmt: skip
    assert resolve(tree)["data"]["of"]["text"] == "text"
    with pytest.raises(ConfigError, match=r"data\.of\.txet is not a key\. Did you mean 'text'"):
        resolve(config.override(tree, ["data.of.txet=3"]))
