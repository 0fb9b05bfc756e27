"""Baselines that are trained: once per run and split, and beside those that the run has."""

import json
import types

import pytest

from seqjax.data._source import Baseline
from seqjax.training.trained import Trained
from seqjax.training.workdir import Workdir
from seqjax.types import ConfigError

BEFORE = {"test": {"accuracy": {"majority class": 0.5}}, "train": {"accuracy": {"majority class": 0.6}}}
LINEAR = Baseline("linear", {"accuracy": 0.8}, parameters=12, seconds=0.5)


@pytest.fixture
def asked(tmp_path):
    """`add_baselines` of a run, the splits that its source was asked for, and a way to see run.json."""
    (tmp_path / "run.json").write_text(json.dumps({"parameters": 7, "baselines": BEFORE}))
    splits = []

    def make(answer):
        source = types.SimpleNamespace(slow_baselines=lambda split: splits.append(split) or answer())
        trained = Trained(types.SimpleNamespace(source=source), Workdir(tmp_path), None, None, 0)
        return trained.add_baselines, splits, lambda: json.loads((tmp_path / "run.json").read_text())

    return make


def test_they_stand_beside_the_others_and_are_trained_once(asked):
    add, splits, written = asked(lambda: [LINEAR])
    assert add("test") is None and add("test") is None and splits == ["test"]
    test = {"accuracy": {"majority class": 0.5, "linear": 0.8}}
    assert written()["parameters"] == 7 and written()["baselines"] == {"test": test, "train": BEFORE["train"]}
    assert written()["costs"] == {"linear": {"parameters": 12, "seconds": 0.5}}


def test_data_without_them_change_nothing(asked):
    add, _, written = asked(list)
    assert add("test") is None and written()["baselines"] == BEFORE


def test_a_missing_package_is_a_note(asked):
    def missing():
        raise ConfigError("a linear baseline of texts needs sklearn")

    add, _, written = asked(missing)
    assert add("test") == "baselines that are trained are missing: a linear baseline of texts needs sklearn"
    assert written()["baselines"] == BEFORE
