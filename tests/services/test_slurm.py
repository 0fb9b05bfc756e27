"""The executor and the recipe of SLURM on a real controller and two real nodes of this machine, without accounting."""

import json
import os
import signal
import sys
from pathlib import Path

import launch
import pytest
import sweeps

import seqjax

pytestmark = pytest.mark.services
RECIPES = Path(seqjax.__file__).parents[1] / "docs" / "recipes"
LONG = 240  # steps of a run that something happens to
OPTIONS = ("--executor", "slurm", "--executor_option", "cpus=1", "--executor_option", "minutes=5")


def sweep(folder: Path, rates: int, *more, steps: int = 120):
    return launch.start(*sweeps.sweep(folder, rates, *OPTIONS, *more, steps=steps))


def saved(folder: Path, trial: int) -> bool:
    """Whether a trial has a checkpoint to go on from."""
    return bool(list((folder / "s" / "trials" / f"{trial:04}" / "ckpt").glob("*0")))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run folder of trial 0 that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    config = ("--config", folder / "c.py", "--config.optim.learning_rate=0.01")
    sweeps.sweep(folder, 1, steps=LONG)
    outcome = launch.end(launch.start("train", *config, "--workdir", folder / "run", JAX_PLATFORMS="cpu"))
    assert outcome.code == 0, outcome
    return folder / "run"


def same_bits(folder: Path, whole: Path) -> None:
    """Trial 0, to which something happened, ended as the run to which nothing did."""
    run = folder / "s" / "trials" / "0000"
    assert launch.final(run) == launch.final(whole) and launch.final(run)[0] == LONG
    assert launch.rows(run) == launch.rows(whole)


def test_trials_are_jobs(slurm, tmp_path):
    process = sweep(tmp_path, 2, "--slots", "2")
    jobs = launch.until(lambda: slurm("squeue", "--noheader", "--format=%j %T").splitlines(), process)
    assert set(jobs) <= {"seqjax PENDING", "seqjax RUNNING", "seqjax CONFIGURING"}
    outcome = launch.end(process)
    assert outcome.code == 0 and "sacct" not in outcome.err, outcome
    sweeps.check(tmp_path, 2)
    assert len(list((tmp_path / "s" / "trials" / "slurm").glob("*/*_result.pkl"))) == 2


@pytest.mark.parametrize("number", ["USR1", "USR2", "TERM"])
def test_a_job_that_gets_a_signal_saves_and_has_a_successor(slurm, whole, tmp_path, number):
    """What SLURM sends before a time limit: submitit's USR2, or what `options` asks for."""
    process = sweep(tmp_path, 1, "--executor_option", f"options=[signal={number}@90]", steps=LONG)
    launch.until(lambda: saved(tmp_path, 0), process)
    (job,) = slurm("squeue", "--noheader", "--format=%A").split()
    slurm("scancel", f"--signal={number}", job)
    outcome = launch.end(process)
    assert outcome.code == 0, outcome
    sweeps.check(tmp_path, 1, LONG)
    first, second = sweeps.starts(tmp_path / "s" / "trials" / "0000")
    assert first["step"] == 0 < second["step"] < LONG
    same_bits(tmp_path, whole)


@pytest.mark.parametrize("how", ["requeue", "preempted", "killed"])
def test_a_job_that_is_taken_away_is_not_the_end_of_its_trial(slurm, whole, tmp_path, how):
    """An operator's requeue, a job of a better partition, SIGKILL for all of its processes: the trial goes on."""
    process = sweep(tmp_path, 1, steps=LONG)
    launch.until(lambda: saved(tmp_path, 0), process)
    (job,) = slurm("squeue", "--noheader", "--format=%A").split()
    if how == "requeue":
        slurm("scontrol", "requeue", job)
    elif how == "preempted":
        slurm("sbatch", "--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 8")
    else:
        slurm("scancel", "--signal=KILL", "--full", job)
    outcome = launch.end(process, 240)
    assert outcome.code == 0, outcome
    sweeps.check(tmp_path, 1, LONG)
    assert len(sweeps.starts(tmp_path / "s" / "trials" / "0000")) == 2
    same_bits(tmp_path, whole)
    assert slurm("squeue", "--noheader", "--partition=normal") == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_job_outlives_its_sweep(slurm, tmp_path, number):
    """Ctrl-C: the run saves, its job ends. SIGKILL: the job ends when its lease is old."""
    process = sweep(tmp_path, 1, steps=100_000)
    launch.until(lambda: saved(tmp_path, 0), process)
    process.send_signal(number)
    code, out, err = launch.end(process)
    run = tmp_path / "s" / "trials" / "0000"
    if number == signal.SIGINT:
        assert code == 75, (out, err)
        assert json.loads((run / "status.json").read_text())["status"] == "preempted"
    else:
        run.with_name("0000.log.lease").unlink()  # the same as two minutes without a renewal
    left = "squeue --noheader | wc -l | grep -qx 0"
    waiting = launch.run("-c", f"import subprocess, time\nwhile subprocess.call({left!r}, shell=True): time.sleep(0.5)")
    assert launch.end(waiting, 60).code == 0
    assert launch.final(run)[0] > 0


def test_a_job_that_sbatch_rejects_is_one_sentence(slurm, tmp_path):
    outcome = launch.end(sweep(tmp_path, 1, "--executor_option", "partition=nowhere"))
    assert outcome.code == 2
    (said,) = outcome.err.strip().splitlines()
    assert said.startswith("seqjax: executor 'slurm': sbatch rejects the job: invalid partition specified: nowhere")
    assert not list(tmp_path.rglob("*.lease")) and not slurm("squeue", "--noheader")


@pytest.fixture
def recipe(slurm, tmp_path, monkeypatch):
    """`recipe(name, steps, *options)` makes a command of sbatch; `seqjax` in it is that of this Python."""
    bin = tmp_path / "bin"
    bin.mkdir()
    (bin / "seqjax").write_text(f'#!/bin/bash\nexec {sys.executable} -m seqjax "$@"\n')
    (bin / "seqjax").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(RECIPES.parents[1]), *sys.path]))

    def submit(script: str, steps: int, options: tuple, *before) -> str:
        config = launch.write(tmp_path / "c.json", launch.tiny(f"train.steps={steps}", "train.checkpoint_every=20"))
        given = ("--parsable", f"--output={tmp_path}/out", "--cpus-per-task=1", *options)
        return slurm("sbatch", *given, RECIPES / script, *before, "--config", config)

    return submit


@pytest.fixture
def spread(recipe, tmp_path):
    """`spread(steps)` submits the recipe for two nodes, with two processes each, not four: there are few cores."""
    return lambda steps: recipe("slurm.sh", steps, ("--ntasks-per-node=2",), "--workdir", tmp_path / "run")


def wait(condition, slurm):
    """`launch.until` for a job, which is no process of ours."""
    process = launch.run("-c", "import time; time.sleep(150)")
    try:
        return launch.until(condition, process)
    finally:
        process.kill()
        process.communicate()


def ended(slurm, job: str) -> str | None:
    state = slurm("squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job}")
    return state if state in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL") else None


def test_the_recipe_is_one_run_on_two_nodes(slurm, spread, tmp_path):
    """Four processes find each other. SIGUSR1: all save, the job is put back, and ends as if nothing had been."""
    job = spread(60)
    wait(lambda: list((tmp_path / "run" / "ckpt").glob("*0")), slurm)
    slurm("scancel", "--signal=USR1", job)
    state = wait(lambda: ended(slurm, job), slurm)
    said = (tmp_path / "out").read_text()
    assert state == "COMPLETED", said
    first, second = sweeps.starts(tmp_path / "run")
    assert first["step"] == 0 < second["step"] < 60
    hardware = json.loads((tmp_path / "run" / "run.json").read_text())["hardware"]
    assert hardware["processes"] == 4
    rows = launch.rows(tmp_path / "run")
    assert [row["step"] for row in rows if row["split"] == "train"] == list(range(1, 61))


def test_the_recipe_does_not_repeat_a_mistake(slurm, spread, tmp_path):
    job = spread(0)
    assert wait(lambda: ended(slurm, job), slurm) == "FAILED"
    assert "train.steps" in (tmp_path / "out").read_text()


def test_tasks_of_an_array_are_runs_of_their_own(slurm, recipe, tmp_path):
    """Two seeds. SIGUSR1 for one task: it saves, is put back, and ends with the bits of a run that was left alone."""
    job = recipe("slurm_array.sh", LONG, ("--array=0-1", "--output=/dev/null"), tmp_path / "seeds")
    runs = [tmp_path / "seeds" / f"seed-{seed}" for seed in (0, 1)]
    wait(lambda: list((runs[1] / "ckpt").glob("*0")), slurm)
    slurm("scancel", "--signal=USR1", f"{job}_1")
    wait(lambda: {ended(slurm, f"{job}_{seed}") for seed in (0, 1)} == {"COMPLETED"}, slurm)
    assert [len(sweeps.starts(run)) for run in runs] == [1, 2]
    alone = ("--config", tmp_path / "c.json", "--config.seed=1", "--workdir", tmp_path / "alone")
    assert launch.end(launch.start("train", *alone, JAX_PLATFORMS="cpu")).code == 0
    assert launch.final(runs[1]) == launch.final(tmp_path / "alone") != launch.final(runs[0])
    assert launch.rows(runs[1]) == launch.rows(tmp_path / "alone")
