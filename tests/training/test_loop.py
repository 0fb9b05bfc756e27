"""The loop's decisions: when it stops, what it keeps, what it counts."""

import json
import math

import launch
import numpy as np
import pytest
from flax import linen as nn

from seqjax.data import copy
from seqjax.training.checkpoint import Checkpoints
from seqjax.training.trained import Trained


def train(tmp_path, *overrides, code=0):
    outcome = launch.main(
        "train", "--config", launch.write(tmp_path / "c.json", launch.tiny(*overrides)), "--workdir", tmp_path / "run"
    )
    assert outcome.code == code, outcome
    return outcome


def status(tmp_path):
    return json.loads((tmp_path / "run" / "status.json").read_text())


def rows(tmp_path, split):
    return [row for row in launch.rows(tmp_path / "run") if row["split"] == split]


def test_a_loss_that_stays_nan_ends_the_run_and_keeps_the_last_good_parameters(tmp_path):
    outcome = train(tmp_path, "optim.name=sgd", "optim.peak=1e30", "optim.clip=none", "train.steps=30",
                    "guard.max_bad_steps=3", "train.checkpoint_every=2", code=6)  # fmt: skip
    assert "3 steps in a row" in outcome.err or "4 steps in a row" in outcome.err
    assert str(tmp_path / "run" / "ckpt") in outcome.err and "optim.peak" in outcome.err
    assert status(tmp_path)["status"] == "failed" and "NumericsError" in status(tmp_path)["error"]
    found = rows(tmp_path, "train")
    assert all(row["loss"] is None or math.isfinite(row["loss"]) for row in found)
    assert any(row["skipped_steps"] == 1 for row in found)
    params = Trained.load(tmp_path / "run", "latest").params
    assert all(np.isfinite(leaf).all() for leaf in _leaves(params))


def _leaves(tree):
    return [leaf for value in tree.values() for leaf in (_leaves(value) if isinstance(value, dict) else [value])]


def test_skipped_steps_are_counted_between_two_lines(tmp_path):
    """All of them, here; and none of them enters the mean."""
    train(tmp_path, "optim.name=sgd", "optim.peak=1e38", "optim.clip=none", "train.steps=9", "train.log_every=4",
          "guard.max_bad_steps=100")  # fmt: skip
    found = rows(tmp_path, "train")
    assert [row["step"] for row in found] == [4, 8, 9]
    assert found[1]["skipped_steps"] == 4 and found[1]["loss"] is None and found[2]["skipped_steps"] == 1


def test_patience_ends_a_run_that_does_not_get_better(tmp_path, monkeypatch):
    """And the best checkpoint is that of the best evaluation; a metric that is not finite is never the best."""
    values = iter([2.0, 1.5, math.nan, 1.7, 1.6, 1.0])
    monkeypatch.setattr(
        "seqjax.training.evaluate.Evaluator.__call__", lambda self, params, on_batch, give_up: {"loss": next(values)}
    )
    outcome = train(tmp_path, "train.steps=20", "train.eval_every=2", "train.patience=3")
    assert "stopped early at step 10" in outcome.out and "best at step 4" in outcome.out
    found = rows(tmp_path, "validation")
    assert [(row["step"], row["loss"]) for row in found] == [(2, 2.0), (4, 1.5), (6, None), (8, 1.7), (10, 1.6)]
    assert Checkpoints(tmp_path / "run" / "ckpt_best").steps() == [4]
    assert Checkpoints(tmp_path / "run" / "ckpt").steps() == [10]
    assert status(tmp_path) == {"status": "done", "step": 10, "error": None}
    assert Trained.load(tmp_path / "run").step == 4


def test_a_checkpoint_between_two_intervals_is_not_forgotten(tmp_path):
    train(tmp_path, "train.steps=5", "train.checkpoint_every=2", "train.keep=1")
    assert Checkpoints(tmp_path / "run" / "ckpt").steps() == [5]


@pytest.mark.parametrize("every", [1, 2, 3])
def test_the_rates_in_the_log_are_those_of_the_steps(tmp_path, every):
    optim = ("optim.warmup=2", "optim.schedule=linear", "optim.end=0.5", "optim.peak=0.1")
    train(tmp_path, "train.steps=4", f"train.log_every={every}", *optim)
    rates = [0.05, 0.1, 0.1, 0.05]
    found = [row["learning_rate"] for row in rows(tmp_path, "train")]
    assert found == pytest.approx([r for step, r in enumerate(rates, 1) if step % every == 0 or step == 4])


def test_what_a_result_must_carry_is_in_run_json(tmp_path):
    train(tmp_path, "train.steps=1")
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    params = Trained.load(tmp_path / "run", "latest").params
    assert (
        run["parameters"] == sum(leaf.size for leaf in _leaves(params)) == sum(n for _, _, n in run["parameter_table"])
    )
    assert run["flops_per_step"] > 0 and run["tokens_per_step"] == 4 * 7
    assert {"jax", "numpy", "seqjax"} <= set(run["versions"]) and run["hardware"]["devices"] >= 1
    assert run["baselines"]["validation"]["accuracy"] == {"guessing": 1 / 4}
    (start,) = run["starts"]
    assert start["step"] == 0 and start["command"].startswith("seqjax train --config")


@pytest.mark.parametrize("options", [(), ("train.accumulate=2",), ("train.steps_per_call=2", "train.log_every=2")])
def test_a_run_reads_its_model_three_times(tmp_path, options):
    """To initialise it, to train and to evaluate: tracing a deep model takes many seconds."""
    read = []

    def listen(call, args, kwargs, context):
        if type(context.module).__name__ == "LanguageModel" and context.method_name == "__call__":
            read.append("initialise" if context.module.is_initializing() else kwargs["deterministic"])
        return call(*args, **kwargs)

    with nn.intercept_methods(listen):
        train(tmp_path, *options)
    assert read == ["initialise", False, True]


def test_an_exception_in_user_code_names_the_users_file(tmp_path, monkeypatch):
    """It is a bug of theirs, so the traceback is kept; the folder says what happened, and saves are finished."""

    def example(self, split, index):
        return {"tokens": np.zeros(3, np.int32)} if split == "train" else 1 / 0

    monkeypatch.setattr(copy.Copy, "example", example)
    outcome = train(tmp_path, "train.checkpoint_every=1", "train.eval_every=3", code=3)
    assert "record 0 of split 'validation'" in outcome.err and "ZeroDivisionError" in outcome.err
    assert status(tmp_path)["status"] == "failed" and status(tmp_path)["step"] == 3
    assert Checkpoints(tmp_path / "run" / "ckpt").steps() == [2, 1]
