"""`seqjax verify-resume`: same bits are confirmed, and what does not resume is found out."""

import json
import os
import sys

import launch
import pytest

from seqjax import verify
from seqjax.training import files
from seqjax.training import run as training_run
from seqjax.training.experiment import resolve
from seqjax.types import CheckpointError, ConfigError, DataError, SeqjaxError

FORGETFUL = """
import numpy as np
from seqjax.data.copy import Copy

other = np.random.default_rng()  # seeded by the clock: another process, other data

class Source(Copy):
    def example(self, split, index):
        first = index < 4  # the batch that every start compares
        return super().example(split, index) if first or split != "train" else self.draw(other, split)
"""

CARELESS = """
from seqjax.data.copy import Copy
from seqjax.training import history
from seqjax.training import run as training_run

restore = training_run.Run.restore

def forget(self):
    restore(self)
    self.totals, self.progress = self.zeros, history.Progress()

training_run.Run.restore = forget
Source = Copy
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A config file; (name of a source) -> its path."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "forgetful.py").write_text(FORGETFUL)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(training_run.Run, "restore", training_run.Run.restore)  # put back what `careless` changes
    options = (
        "model.dropout=0.2",
        "train.eval_every=1",
        "optim.learning_rate=1e-30",
    )  # the first evaluation is the best
    write = lambda name: launch.write(tmp_path / "c.json", launch.tiny(f"data.name={name}", *options))
    yield write
    for name in ("outside", "outside.forgetful", "outside.careless"):
        sys.modules.pop(name, None)


@pytest.mark.slow  # three processes
def test_a_run_that_resumes_is_confirmed_and_one_that_does_not_is_found_out(config, tmp_path):
    command = ["--steps", 4, "--kills", 1, "--workdir", tmp_path / "proof"]
    outcome = launch.main("verify-resume", "--config", config("copy"), *command)
    assert outcome.code == 0, outcome
    step, digest = launch.final(tmp_path / "proof" / "killed")
    assert f"same bits after {step} steps" in outcome.out and digest in outcome.out
    assert len(json.loads((tmp_path / "proof" / "killed" / "run.json").read_text())["starts"]) == 2
    assert launch.rows(tmp_path / "proof" / "killed") == launch.rows(tmp_path / "proof" / "straight")

    before = launch.tree_of(tmp_path / "proof")
    outcome = launch.main("verify-resume", "--config", config("copy"), *command)
    assert outcome.code == 2 and outcome.err == (
        f"seqjax: {tmp_path / 'proof'} holds an earlier proof or a run (config.json): choose another --workdir, "
        "or delete it.\n"
    )
    assert launch.tree_of(tmp_path / "proof") == before

    # The same folders again, with other bits in one place.
    rows = tmp_path / "proof" / "killed" / "metrics.jsonl"
    found = files.read_rows(rows, lambda row: None).rows
    row, found[2] = found[2], {**found[2], "loss": found[2]["loss"] + 1}
    files.write_rows(rows, found)
    (rows.parent / "status.json").unlink()  # it knows of other rows
    with pytest.raises(CheckpointError, match=rf"metrics from step {row['step']} \({row['split']}\) on: loss"):
        verify.compare(tmp_path / "proof" / "straight", tmp_path / "proof" / "killed")


@pytest.mark.slow  # three processes; as above
def test_a_source_that_gives_other_data_to_another_process_is_found_out(config, tmp_path):
    command = ["--steps", 4, "--kills", 1, "--workdir", tmp_path / "proof"]
    outcome = launch.main("verify-resume", "--config", config("outside.forgetful:Source"), *command)
    assert outcome.code == 4, outcome
    assert "the straight run and the killed run differ: metrics from step 2 (train) on: " in outcome.err
    assert "arrays of the state, the first of them" in outcome.err


@pytest.mark.slow  # three processes
def test_a_run_that_loses_what_is_saved_beside_the_state_is_found_out(config, tmp_path):
    """The sums of a log interval, and which evaluation was best: the bits of the state are the same."""
    (tmp_path / "outside" / "careless.py").write_text(CARELESS)
    file = config("outside.careless:Source")
    outcome = launch.main("verify-resume", "--config", file, "--steps", 4, "--kills", 1)
    assert outcome.code == 4, outcome
    assert "metrics from step 2 (train) on: " in outcome.err and "arrays" not in outcome.err
    assert "progress.best_step 1 and 2" in outcome.err and "best [1] and [2]" in outcome.err


def test_a_proof_in_which_no_run_began_at_a_checkpoint_is_none(monkeypatch, tmp_path):
    trained = {"straight": [0], "killed": [0, 0]}

    def run(file, folder, kill=None):
        folder.mkdir(exist_ok=True)
        starts = [{"step": step} for step in trained[folder.name]]
        (folder / "run.json").write_text(json.dumps({"starts": starts}))

    monkeypatch.setattr(verify, "_run", run)
    with pytest.raises(SeqjaxError, match=r"began at steps \[0\]"):
        verify.verify(resolve(launch.tiny()), tmp_path, steps=4, kills=1, seed=0)


@pytest.mark.parametrize(("steps", "kills", "least"), [(7, 3, 8), (30, 0, 4), (30, -1, 4), (1, 1, 4)])
def test_kills_fit_into_steps(steps, kills, least, tmp_path):
    with pytest.raises(ConfigError, match=f"got {kills} kills in {steps} steps: .* at least {least} steps"):
        verify.verify(resolve(launch.tiny()), tmp_path, steps=steps, kills=kills, seed=0)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("kills", [1, 2, 3, 5])
def test_every_kill_comes_after_a_checkpoint_and_every_checkpoint_within_a_log_interval(k, kills):
    many = [f"train.{key}={1000 * k}" for key in ("steps", "log_every", "checkpoint_every")]
    tree = resolve(launch.tiny(f"train.steps_per_call={k}", *many))
    for calls in range(2 * (kills + 1), 60):
        train = verify.shortened(tree, calls * k, kills)["train"]
        first, every, steps = train["checkpoint_every"], train["log_every"], train["steps"]
        logged = [step for step in range(every, steps, every) if step > first]
        assert list(verify.logged(train)) == logged and len(logged) >= kills
        assert first % k == every % k == 0 and first % every == k


def test_what_is_trained_is_the_config_but_for_its_length():
    tree = resolve(
        launch.tiny("train.eval_every=500", "train.steps=1000", "optim.warmup_steps=100", "model.dropout=0.2")
    )
    short = verify.shortened(tree, 20, 4)
    assert {k: v for k, v in short.items() if k not in ("train", "optim")} == {
        k: v for k, v in tree.items() if k not in ("train", "optim")
    }
    assert short["train"] | {"patience": None} == tree["train"] | dict(
        steps=20, log_every=2, checkpoint_every=1, eval_every=6, patience=None
    )
    assert short["optim"] == tree["optim"] | {"warmup_steps": 20}
    tree = resolve(
        launch.tiny("train.steps=1000", "train.steps_per_call=5", "train.log_every=5", "optim.warmup_steps=100")
    )
    short = verify.shortened(tree, 42, 3)
    assert (short["train"]["steps"], short["optim"]["warmup_steps"]) == (40, 40)
    tree["optim"]["groups"] = [{"match": "head/.*", "rate": 1.0, "decay": 1.0, "from_step": step} for step in (3, 900)]
    assert [group["from_step"] for group in verify.shortened(tree, 42, 3)["optim"]["groups"]] == [3, 20]


def test_a_run_that_fails_by_itself_says_why(tmp_path):
    tree = resolve(launch.tiny("loader.buckets=[2]"))  # no example is as short as that
    with pytest.raises(DataError, match=r"^record 0 .*loader\.buckets"):
        verify.verify(tree, tmp_path, steps=4, kills=1, seed=0)


@pytest.mark.parametrize(
    ("platform", "flags", "told"),
    [("cpu", "", False), ("gpu", "", True), ("gpu", "--xla_gpu_deterministic_ops=true", False)],
)
def test_on_a_gpu_the_order_of_sums_may_be_why_bits_differ(monkeypatch, platform, flags, told):
    monkeypatch.setattr(verify.jax, "default_backend", lambda: platform)
    monkeypatch.setenv("XLA_FLAGS", flags)
    assert ("--xla_gpu_exclude_nondeterministic_ops=true" in verify._hint()) == told
