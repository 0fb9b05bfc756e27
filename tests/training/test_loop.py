"""The loop's decisions: when it stops, what it keeps, what it counts."""

import json
import math
from pathlib import Path

import launch
import numpy as np
import pytest
from flax import linen as nn

from seqjax.data import copy
from seqjax.training.checkpoint import Checkpoints
from seqjax.training.guard import Guard, TooBad
from seqjax.training.progress import Display
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
    outcome = train(tmp_path, "optim.name=sgd", "optim.learning_rate=1e30", "optim.clip_norm=none", "train.steps=30",
                    "guard.max_bad_steps=3", "train.checkpoint_every=2", code=6)  # fmt: skip
    assert "3 steps in a row" in outcome.err or "4 steps in a row" in outcome.err
    assert str(tmp_path / "run" / "ckpt") in outcome.err and "optim.learning_rate" in outcome.err
    assert status(tmp_path)["status"] == "failed" and "NumericsError" in status(tmp_path)["error"]
    found = rows(tmp_path, "train")
    assert all(row["loss"] is None or math.isfinite(row["loss"]) for row in found)
    assert any(row["skipped_steps"] == 1 for row in found)
    params = Trained.load(tmp_path / "run", "latest").params
    assert all(np.isfinite(leaf).all() for leaf in _leaves(params))


def _leaves(tree):
    return [leaf for value in tree.values() for leaf in (_leaves(value) if isinstance(value, dict) else [value])]


@pytest.mark.parametrize(
    ("first", "kept", "clip", "dtype", "spike", "words"),
    [
        (
            5,
            True,
            None,
            "float32",
            None,
            "the last good parameters are in ckpt: lower optim.learning_rate, set optim.clip_norm, or ",
        ),
        (5, True, 1.0, "bfloat16", 20.0, "ckpt: lower optim.learning_rate, raise guard.spike, or check the data."),
        (1, False, 1.0, None, None, "no checkpoint is in ckpt yet: no step was good, so look for the cause"),
        (1, False, 1.0, "float16", None, "set model.dtype='bfloat16', as float16 overflows above 65504. If that does"),
    ],
)
def test_the_advice_fits_the_cause(first, kept, clip, dtype, spike, words):
    """And names only what is there: no checkpoint before the first one, no clip that is set, no rate without a say."""
    bad = TooBad(first, first + 2, "3 steps in a row were bad")
    assert words in str(Guard(spike=spike).verdict(bad, 0, Path("ckpt"), kept, clip, dtype))


def test_skipped_steps_are_counted_between_two_lines(tmp_path):
    """All of them, here; and none of them enters the mean, nor makes the loss on the screen look like no number."""
    outcome = train(tmp_path, "optim.name=sgd", "optim.learning_rate=1e38", "optim.clip_norm=none", "train.steps=9",
                    "train.log_every=4", "guard.max_bad_steps=100")  # fmt: skip
    found = rows(tmp_path, "train")
    assert [row["step"] for row in found] == [4, 8, 9]
    assert found[1]["skipped_steps"] == 4 and found[1]["loss"] is None and found[2]["skipped_steps"] == 1
    first, second, third = (line for line in outcome.out.splitlines() if "/9  " in line)
    loss = f"loss {found[0]['loss']:.4f}"
    assert (
        f"step 4/9  {loss}  3 steps skipped  " in first and f"step 8/9  {loss} at step 4  4 steps skipped  " in second
    )
    assert f"step 9/9  {loss} at step 4  1 step skipped  " in third


def test_before_the_first_good_step_there_is_no_loss(capsys):
    row = {"step": 2, "loss": math.nan, "skipped_steps": 2, "tokens_per_s": math.nan}
    Display("run", 9, 0).metrics(row, 3.0)
    assert capsys.readouterr().out == "step 2/9  no loss yet  2 steps skipped  eta 3 s\n"


def test_patience_ends_a_run_that_does_not_get_better(tmp_path, monkeypatch):
    """And the best checkpoint is that of the best evaluation; a metric that is not finite is never the best."""
    values = iter([2.0, 1.5, math.nan, 1.7, 1.6, 1.0])
    monkeypatch.setattr(
        "seqjax.training.evaluate.Evaluation.__call__",
        lambda self, params, step, on_batch, give_up: {"loss": next(values)},
    )
    outcome = train(tmp_path, "train.steps=20", "train.eval_every=2", "train.patience=3")
    assert "stopped early at step 10" in outcome.out and "best at step 4" in outcome.out
    found = rows(tmp_path, "validation")
    assert [(row["step"], row["loss"]) for row in found] == [(2, 2.0), (4, 1.5), (6, None), (8, 1.7), (10, 1.6)]
    assert Checkpoints(tmp_path / "run" / "ckpt_best").steps() == [4]
    assert Checkpoints(tmp_path / "run" / "ckpt").steps() == [10]
    assert status(tmp_path).items() >= {"status": "done", "step": 10, "error": None}.items()
    assert Trained.load(tmp_path / "run").step == 4


def test_a_run_that_stopped_early_stops_there_again(tmp_path, monkeypatch):
    """Killed behind its last save, before it could say that it is done."""
    values = iter([2.0, 3.0, 1.0])
    monkeypatch.setattr(
        "seqjax.training.evaluate.Evaluation.__call__",
        lambda self, params, step, on_batch, give_up: {"loss": next(values)},
    )
    options = ("train.steps=20", "train.eval_every=2", "train.patience=1")
    train(tmp_path, *options)
    before = launch.rows(tmp_path / "run")
    (tmp_path / "run" / "status.json").unlink()
    assert "stopped early at step 4: loss was best at step 2" in train(tmp_path, *options).out
    assert launch.rows(tmp_path / "run") == before and status(tmp_path)["status"] == "done"


def test_the_best_is_one_of_this_run(tmp_path, monkeypatch):
    """One of steps that the run has yet to take goes; the one that its checkpoint knows of has stayed until then."""
    values = iter([3.0, 2.0, 1.0, "ended", 2.5, 2.5])

    def found(self, params, step, on_batch, give_up):
        return {"loss": float(next(values))}

    monkeypatch.setattr("seqjax.training.evaluate.Evaluation.__call__", found)
    options = ("train.steps=8", "train.eval_every=2", "train.checkpoint_every=4", "optim.schedule=constant")
    run, best = tmp_path / "run", Checkpoints(tmp_path / "run" / "ckpt_best")
    with pytest.raises(ValueError, match="ended"):
        train(tmp_path, *options)
    assert best.steps() == [6, 4]
    train(tmp_path, *options, "optim.learning_rate=0.02")
    assert best.steps() == [4] and Trained.load(run).step == 4


def test_speed_is_steps_over_the_time_of_training(tmp_path):
    """However evaluations and saves lie between two lines, and whichever buckets are compiled on the way."""
    lines = "".join("ab" * n + "\n" for n in (1, 1, 2, 2, 4, 4) * 2)
    (tmp_path / "texts.csv").write_text("text\n" + lines)
    data = {"name": "table", "train": str(tmp_path / "texts.csv"), "validation": None, "text": "text"}
    train(tmp_path, f"data={data!r}", "loader.batch_size=2", "loader.buckets=[2,4,8]", "train.steps=24",
          "train.log_every=6", "train.checkpoint_every=4")  # fmt: skip
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    found, compiled = [row for row in map(json.loads, lines) if row["split"] == "train"], 0
    for before, row in zip([{"seconds": 0.0}, *found], found, strict=False):
        timed = 6 - (row["jit_compiles"] - compiled)
        compiled = row["jit_compiles"]
        assert (row["steps_per_s"] or 0) * (row["seconds"] - before["seconds"]) == pytest.approx(timed)
    assert compiled == 3


def test_a_monitor_is_a_metric_of_evaluation(tmp_path):
    for command in ((), ("--dry_run",)):
        file = launch.write(tmp_path / "c.json", launch.tiny("task.monitor=other_score"))
        outcome = launch.main("train", "--config", file, "--workdir", tmp_path / "run", *command)
        assert outcome.code == 2 and "task: monitor='other_score' is not a metric. It has " in outcome.err
        assert "loss" in outcome.err and "grad_norm" not in outcome.err


def test_what_was_trained_on_two_devices_is_evaluated_on_one(copied, tmp_path):
    copied("copy")
    tree = json.loads((tmp_path / "run" / "config.json").read_text())
    tree["parallel"]["fsdp"], tree["train"]["accumulation_steps"] = 8, 3  # which no batch of 4 can be cut into
    del tree["format"], tree["seal"]  # else the change is refused
    launch.write(tmp_path / "run" / "config.json", tree)
    assert launch.main("evaluate", "--workdir", tmp_path / "run").code == 0


def test_other_data_under_the_same_name_are_not_evaluated(tmp_path):
    file, other = tmp_path / "a.txt", tmp_path / "b.txt"
    file.write_text("abcab" * 40)
    other.write_text("abdab" * 40)
    data = {"name": "text", "path": str(file), "length": 4, "validation": 0.2, "test": 0.2}
    train(tmp_path, f"data={data!r}")
    evaluate = lambda *args: launch.main("evaluate", "--workdir", tmp_path / "run", *args)
    assert evaluate().code == 0
    outcome = evaluate("--at", f"data.path={other}")
    assert outcome.code == 2 and "token 2 is 'd' and was 'c' in training" in outcome.err
    file.write_text("abdab" * 40)
    file.write_text("bacab" * 40)
    outcome = evaluate()
    assert outcome.code == 4 and "the first batch of the training data has changed" in outcome.err


def test_what_is_not_a_number_is_null_in_results(copied, tmp_path, monkeypatch):
    copied("copy")
    monkeypatch.setattr("seqjax.training.evaluate.Evaluation.__call__", lambda self, *_: {"loss": math.nan})
    launch.main("evaluate", "--workdir", tmp_path / "run")
    text = (tmp_path / "run" / "results.json").read_text()
    assert json.loads(text)["validation"]["metrics"] == {"loss": None} and "NaN" not in text


def test_baselines_are_those_of_the_first_start(copied, tmp_path, monkeypatch):
    """Of the same data; they take their time."""
    copied("copy")
    first = json.loads((tmp_path / "run" / "run.json").read_text())["baselines"]
    monkeypatch.setattr(copy.Source, "baselines", lambda *_: pytest.fail("asked again"))
    train(tmp_path, "train.steps=6")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["baselines"] == first != {}


def test_a_checkpoint_between_two_intervals_is_not_forgotten(tmp_path):
    train(tmp_path, "train.steps=5", "train.checkpoint_every=2", "train.keep_checkpoints=1")
    assert Checkpoints(tmp_path / "run" / "ckpt").steps() == [5]


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)])
def test_the_rates_in_the_log_are_those_of_the_steps(tmp_path, every):
    optim = ("optim.warmup_steps=2", "optim.schedule=linear", "optim.final_scale=0.5", "optim.learning_rate=0.1")
    train(tmp_path, "train.steps=4", f"train.log_every={every}", *optim)
    rates = [0.05, 0.1, 0.1, 0.05]
    found = [row["learning_rate"] for row in rows(tmp_path, "train")]
    assert found == pytest.approx([r for step, r in enumerate(rates, 1) if step % every == 0 or step == 4])


def test_what_a_result_must_carry_is_in_run_json(trained):
    run = json.loads((trained("copy") / "run.json").read_text())
    params = Trained.load(trained("copy"), "latest").params
    assert (
        run["parameters"] == sum(leaf.size for leaf in _leaves(params)) == sum(n for _, _, n in run["parameter_table"])
    )
    assert run["flops_per_step"] > 0 and run["tokens_per_step"] == 4 * 7
    assert {"jax", "numpy", "seqjax"} <= set(run["versions"]) and run["hardware"]["devices"] >= 1
    assert run["baselines"]["validation"]["accuracy"] == {"guessing": 1 / 4}
    (start,) = run["starts"]
    assert start["step"] == 0 and start["command"].startswith("seqjax train --config")


@pytest.mark.parametrize(
    "options", [(), ("train.accumulation_steps=2",), ("train.steps_per_call=2", "train.log_every=2")]
)
def test_a_run_reads_its_model_three_times(tmp_path, options):
    """To initialise it, to train and to evaluate: tracing a deep model takes many seconds."""
    read = []

    def listen(call, args, kwargs, context):
        if type(context.module).__name__ == "Stack" and context.method_name == "__call__":
            read.append("initialise" if context.module.is_initializing() else kwargs["deterministic"])
        return call(*args, **kwargs)

    with nn.intercept_methods(listen):
        train(tmp_path, *options)
    assert read == ["initialise", False, True]


def test_an_exception_in_user_code_names_the_users_file(tmp_path, monkeypatch):
    """It is a bug of theirs, so the traceback is kept; the folder says what happened, and saves are finished."""

    def example(self, split, index):
        return {"tokens": np.zeros(3, np.int32), "scored": np.ones(3, bool)} if split == "train" else 1 / 0

    monkeypatch.setattr(copy.Copy, "example", example)
    outcome = train(tmp_path, "train.checkpoint_every=1", "train.eval_every=3", code=3)
    assert "record 0 of split 'validation'" in outcome.err and "ZeroDivisionError" in outcome.err
    assert status(tmp_path)["status"] == "failed" and status(tmp_path)["step"] == 3
    assert Checkpoints(tmp_path / "run" / "ckpt").steps() == [2, 1]
