"""Faults that a run meets from without: files, disks, signals, numbers. The rows are those of `table.py`."""

import contextlib
import errno
import itertools
import json
import os
import re
import resource
import subprocess
import time
from pathlib import Path

import driver
import jax
import launch
import numpy as np
import pytest
from driver import BASE, Fault, Ran

from seqjax import verify
from seqjax.data import Batches, copy
from seqjax.training import run as training_run
from seqjax.training.checkpoint import Checkpoints
from seqjax.training.damage import FILES
from seqjax.training.trained import Trained

HALF = (BASE, 6)  # a run that was asked to stop at step 6; it has steps 4 and 6


def slow_if(long: bool, *values):
    """A parameter that is left to `make test-slow`: what is like it is tested every time."""
    return pytest.param(*values, marks=[pytest.mark.slow] * long)


# 10 to 14, 25: what is found in the folder.


def set_aside(ran: Ran) -> None:
    """The damaged step is there under another name, and the one before it was taken."""
    assert (ran.folder / "ckpt" / "6.corrupt").is_dir() and ran.starts == [0, 4]


def went_on(ran: Ran) -> None:
    assert ran.starts == [0, 6]


def clutter(folder: Path) -> None:
    """What other programs and hands leave in a folder of checkpoints."""
    for name in ("9.orbax-checkpoint-tmp", "7_copy"):
        (folder / "ckpt" / name).mkdir()
        (folder / "ckpt" / name / "half").write_text("half")
    (folder / "ckpt" / "8").write_text("a file")


def tidy(ran: Ran) -> None:
    went_on(ran)
    left = {p.name for p in (ran.folder / "ckpt").iterdir()}
    assert left - {"8"} == {"12", "10", "7_copy"}  # step 8 takes the place of a file of that name


FOUND = {
    "10 a bit": Fault(damage=driver.spoil("", "a bit"), logged=("ckpt/6", "set aside"), check=set_aside),
    "11 cut": Fault(damage=driver.spoil("", "cut"), logged=("ckpt/6", "set aside"), check=set_aside),
    "11 deleted": Fault(damage=driver.spoil("", "deleted"), logged=("ckpt/6", "set aside"), check=set_aside),
    "12 manifest": Fault(damage=driver.spoil("state/manifest.ocdbt", "zeros"), logged=("ckpt/6",), check=set_aside),
    "12 tree": Fault(damage=driver.spoil("state/_METADATA", "cut"), logged=("ckpt/6",), check=set_aside),
    "12 json": Fault(damage=driver.spoil("_CHECKPOINT_METADATA", "cut"), logged=("ckpt/6",), check=set_aside),
    "13 empty": Fault(damage=lambda folder: (folder / "ckpt" / "999999").mkdir(), logged=("ckpt/999999",),
                      check=went_on),
    "14 clutter": Fault(damage=clutter, check=tidy),
    "25 stale lock": Fault(damage=lambda folder: (folder / ".lock").write_text("process 4194305 on nowhere"),
                           check=went_on),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:coroutine")
@pytest.mark.parametrize(
    "fault", [slow_if(name[:2] in ("11", "12"), fault) for name, fault in FOUND.items()], ids=FOUND
)
def test_what_is_found_in_the_folder_changes_no_bit(meet, runs, fault):
    driver.same_as(runs.folder(BASE), meet(fault._replace(past=HALF)))


# 57: what says nothing of the files.


def test_an_error_of_another_kind_is_not_damage(meet, runs):
    """Row 57: nothing is renamed, nothing that deletes is recommended, and a retry goes on to the same bits."""
    others = (
        OSError(errno.EIO, "Input/output error"),
        MemoryError(),
        ImportError("cannot import name 'api' from 'google'"),
    )
    for error, past in zip(others, (HALF, None, None), strict=True):

        def refuse(*_, error=error):
            raise error

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("orbax.checkpoint.v1.load", refuse)
            words = ("ckpt/6 cannot be read", type(error).__name__, "run the same command again")
            ran = meet(Fault(5, words, past=past))
        assert ran.steps == [6, 4] and "restart" not in ran.outcome.err and "aside" not in ran.log
    driver.same_as(runs.folder(BASE), meet(Fault(check=lambda ran: went_on(ran))))


# 18, 27: what is refused.

BAG = {**launch.tiny("train.steps=2", "train.checkpoint_every=1"), "model": {"name": "faulty.models:Bag"}}


def test_parameters_of_another_dtype_are_not_cast(meet):
    """Row 18."""
    half = {**BAG, "model": {**BAG["model"], "param_dtype": "bfloat16"}}
    ran = meet(Fault(4, ("Dense_0", "saved float32[5]", "wanted bfloat16[5]"), half, past=(BAG, None)))
    assert ran.steps == [2, 1]


def read_only_places(tmp_path):
    """Folders in which nobody may write, root included, with what makes them."""
    if Path("/proc/self").exists():
        yield Path("/proc/run")
    (tmp_path / "locked").mkdir(mode=0o555)
    if os.geteuid():
        yield tmp_path / "locked" / "run"


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_built(meet, tmp_path, monkeypatch):
    """Row 27; what is a file is in test_bad_input.py, what is missing and is made in test_workdir.py."""
    monkeypatch.setattr(training_run.Run, "start", None)  # not reached
    for place in read_only_places(tmp_path):
        meet(Fault(5, (place, "cannot write", "another --workdir")), place)


# 26, 28: disks. Where mounting is not allowed, the same with limits of the process.


@pytest.fixture
def disk():
    """A small disk of its own: a function (folder, options) that mounts it."""
    mounted = []

    def mount(folder: Path, *options: str) -> Path:
        folder.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"mounting is not allowed here: {error}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Leaves no byte."""
    with open(folder / "filler", "wb", buffering=0) as f:
        for size in (2**16, 2**9, 1):
            with contextlib.suppress(OSError):
                while True:
                    f.write(b"\0" * size)


def test_a_full_disk_costs_only_time(meet, runs, disk, tmp_path):
    """Row 26: the message has path and bytes, older steps stay, and with room again the run goes on."""
    run = disk(tmp_path / "run", "-o", "size=2m")
    ran = meet(Fault(5, (run / "ckpt", "step 8", "0 bytes free", "No space left"), past=HALF, at=(8, fill)))
    assert ran.steps == [6, 4]
    (run / "filler").unlink()
    driver.same_as(runs.folder(BASE), meet(Fault()))


@pytest.mark.slow
def test_a_full_disk_is_told_in_the_last_line(disk, tmp_path):
    """Row 26, in a process of its own: nothing that threads of others print comes behind it."""
    run, file = disk(tmp_path / "disk", "-o", "size=3m") / "run", tmp_path / "c.json"
    tree = driver.tree((*BASE, "train.steps=1000000", "train.checkpoint_every=100", "train.log_every=1000000"))
    process = launch.start("train", "--config", launch.write(file, tree), "--workdir", run, "--quiet")
    launch.until(lambda: Checkpoints(run / "ckpt").steps(), process)
    fill(tmp_path / "disk")
    outcome = launch.end(process, driver.LIMIT)
    driver.said(outcome, 5, ("ckpt", "0 bytes free", "No space left"))
    assert outcome.err.splitlines()[-1].startswith("seqjax: ") and launch.gone(process.pid)


WIDE = (*BASE, "model.width=48")


@pytest.mark.slow
def test_files_that_may_not_grow_are_a_full_disk(meet, runs, monkeypatch):
    """Row 26 without a mount: 16 KiB a file, which the arrays do not fit in."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    few = lambda folder: resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, limits[1]))
    try:
        ran = meet(Fault(5, ("ckpt", "step 8", "bytes free"), WIDE, past=(WIDE, 6), at=(8, few)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert ran.steps == [6, 4]
    driver.same_as(runs.folder(WIDE), meet(Fault(tree=WIDE)))


def saved(step: int, action):
    """The action, once a step stands on the disk."""

    def wait(folder):
        ckpt = folder / "ckpt"
        while not (ckpt / str(step) / FILES).exists() or list(ckpt.glob("*tmp*")):
            time.sleep(0.01)
        action(folder)

    return wait


@pytest.mark.slow
def test_a_disk_that_turns_read_only_is_never_success(meet, runs, disk, tmp_path):
    """Row 28: before the last save, which runs beside everything else."""
    remount = lambda how: subprocess.run(["mount", "-o", f"remount,{how}", tmp_path / "run" / "ckpt"], check=True)
    disk(tmp_path / "run" / "ckpt")
    ran = meet(Fault(5, ("ckpt", "step 12", "Read-only"), past=HALF, at=(12, saved(10, lambda folder: remount("ro")))))
    assert ran.steps[0] == 10 and json.loads((ran.folder / "status.json").read_text())["status"] == "failed"
    remount("rw")
    driver.same_as(runs.folder(BASE), meet(Fault()))


@pytest.mark.parametrize("call", [slow_if(True, "mkdir"), "rename"])
def test_a_save_that_is_refused_is_never_success(meet, runs, call):
    """Row 28 without a mount: at its beginning, and at its end in another thread."""
    with pytest.MonkeyPatch.context() as patch:

        def refuse(folder):
            real = getattr(os, call)

            def refused(path, *args, **kwargs):
                if str(folder / "ckpt") in str(path):
                    raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
                return real(path, *args, **kwargs)

            patch.setattr(os, call, refused)

        ran = meet(Fault(5, ("ckpt", "step 12", "Read-only"), past=HALF, at=(12, saved(10, refuse))))
        assert ran.steps[0] == 10
    driver.same_as(runs.folder(BASE), meet(Fault()))


# 34 to 37, 56: numbers.


def signs(*overrides, **source) -> dict:
    """A class from the sign of a feature, with a fault in some of the batches."""
    tree = launch.tiny("task=faulty.tasks:Loud", "train.steps=16", "optim.schedule=cosine", *overrides)
    return {**tree, "data": {"name": "faulty.sources:Signs", **source}}


def column(ran: Ran, name: str) -> list:
    return [row[name] for row in ran.rows if row["split"] == "train"]


def finite(folder: Path) -> bool:
    """Whether the newest checkpoint has finite parameters."""
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(Trained.load(folder, "latest").params))


def test_one_poisoned_batch_costs_one_step(meet):
    """Row 34."""
    ran = meet(Fault(tree=signs(huge=[5])))
    assert column(ran, "skipped_steps") == [0] * 5 + [1] + [0] * 10
    losses = column(ran, "loss")
    assert losses[5] is None and losses[-1] < losses[4] and finite(ran.folder)


HOPELESS = (
    "optim.name=sgd",
    "optim.learning_rate=1e30",
    "optim.clip_norm=none",
    "train.steps=60",
    "train.log_every=50",
)


@pytest.mark.parametrize(
    ("policy", "words", "most"),
    [
        ("stop", ("step 2 was bad: the loss",), 2),
        ("skip", ("3 steps in a row up to step 4",), 4),
        ("rollback", ("after 2 rollbacks", "3 steps in a row"), 5),
    ],
)
def test_a_hopeless_run_ends_with_finite_parameters(meet, policy, words, most):
    """Row 35: long before the next log line, and at most two steps later than need be."""
    guard = ("guard.max_bad_steps=3", "guard.max_rollbacks=2", f"guard.policy={policy}", "train.checkpoint_every=2")
    ran = meet(Fault(6, (*words, "optim.learning_rate", "ckpt"), (*BASE, *HOPELESS, *guard)))
    status = json.loads((ran.folder / "status.json").read_text())
    assert status["status"] == "failed" and most <= status["step"] <= most + 2
    assert finite(ran.folder) if ran.steps else policy == "stop"


def test_parameters_that_are_not_finite_are_not_saved(meet, monkeypatch):
    """Also where loss and gradient have not seen it yet."""
    made = []

    class Recorded(training_run.Run):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

    def poison(folder):
        made[0].state = jax.tree.map(lambda a: a * np.nan if a.dtype == "float32" else a, made[0].state)

    monkeypatch.setattr(training_run, "Run", Recorded)
    ran = meet(Fault(6, ("not finite after step 6", "ckpt"), at=(5, poison)))
    assert ran.steps == [4, 2] and finite(ran.folder)


def test_a_spike_is_skipped(meet, runs):
    """Row 36: a gradient of ten thousand times the size, clipped or not, would be felt for long."""
    ran = meet(Fault(tree=signs("guard.spike=20", loud=[12])))
    assert column(ran, "skipped_steps") == [0] * 12 + [1] + [0] * 3
    calm = launch.rows(runs.folder(signs()))
    assert column(ran, "loss")[-1] == pytest.approx(calm[-1]["loss"], rel=0.1)
    loud = meet(Fault(tree=signs(loud=[12])), ran.folder.with_name("loud"))
    assert sum(column(loud, "skipped_steps")) == 0


@pytest.mark.slow
def test_the_first_steps_are_no_spikes(meet):
    """Row 36: before there is a mean to hold them against."""
    assert sum(column(meet(Fault(tree=signs("guard.spike=20", loud=[8]))), "skipped_steps")) == 0


BACK = ("guard.policy=rollback", "guard.max_bad_steps=3", "train.checkpoint_every=4")


def rolled_back(ran: Ran) -> None:
    """Steps 6 to 8 were bad: the run went back to step 4, and on with batch 8 (of 0, 1, ...)."""
    assert column(ran, "step") == list(range(1, 17)) and sum(column(ran, "skipped_steps")) == 0
    assert column(ran, "rollbacks") == [0] * 4 + [1] * 12
    assert ran.steps == [16, 12] and finite(ran.folder)
    _, meta = verify.last(ran.folder)
    assert meta["batches_seen"] == 20


def test_bad_batches_in_a_row_are_passed_over(meet, runs):
    """Row 37: as if the source had never had them."""
    ran = meet(Fault(tree=signs(*BACK, huge=[5, 6, 7]), logged=("back to step 4, rollback 1 of 3",), check=rolled_back))
    assert {p.name for p in (ran.folder / "ckpt").iterdir()} == {"12", "16"}


@pytest.mark.slow
@pytest.mark.parametrize("step", [6, 10])
def test_a_run_that_rolled_back_resumes_to_the_same_bits(meet, runs, step):
    """Row 37: asked to stop among the bad steps, and behind them."""
    tree = signs(*BACK, huge=[5, 6, 7])
    meet(Fault(75, ("run the same command again",), tree, at=(step, driver.terminate)))
    driver.same_as(runs.folder(tree), meet(Fault(tree=tree, check=rolled_back)))


@pytest.mark.slow
def test_a_rollback_without_a_checkpoint_begins_anew(meet):
    ran = meet(Fault(tree=signs(*BACK, huge=[0, 1, 2]), logged=("back to step 0",)))
    assert column(ran, "step") == list(range(1, 17)) and column(ran, "rollbacks") == [1] * 16


@pytest.mark.slow
def test_an_empty_batch_teaches_nothing(meet, monkeypatch):
    """Row 56: batch 5 of 0, 1, ... has no token; nothing is skipped, and nothing learnt."""
    real, none = copy.Copy.example, {"tokens": np.zeros(0, np.int32), "scored": np.zeros(0, bool)}
    example = lambda self, split, index: none if 20 <= index < 24 and split == "train" else real(self, split, index)
    monkeypatch.setattr(copy.Copy, "example", example)
    ran = meet(Fault(tree=(*BASE, "optim.name=sgd", "train.keep_checkpoints=9", "train.checkpoint_every=1")))
    assert sum(column(ran, "skipped_steps")) == 0 and column(ran, "grad_norm")[5] == 0
    params = [Trained.load(ran.folder, step).params for step in ("4", "5", "6")]
    same = [jax.tree.all(jax.tree.map(np.array_equal, a, b)) for a, b in itertools.pairwise(params)]
    assert same == [False, True] and finite(ran.folder)


# 4 to 6, 51 to 53: signals, memory, code of others.


def test_a_signal_while_the_first_step_is_compiled(meet, monkeypatch):
    """Row 6: the step is made and saved."""
    real = training_run.traced

    def traced(step):
        def reading(*args):
            driver.terminate(None)
            return step(*args)

        return real(reading)

    monkeypatch.setattr(training_run, "traced", traced)
    ran = meet(Fault(75, ("SIGTERM", "saved step 1 of 12", "run the same command again")))
    assert ran.steps == [1] and json.loads((ran.folder / "status.json").read_text())["status"] == "preempted"


def test_a_signal_cuts_an_evaluation_short(meet, runs, monkeypatch):
    """The next start makes up for it, once."""
    looking = (*BASE, "train.eval_every=4", "train.checkpoint_every=3")
    want, real, told = runs.folder(looking), copy.Copy.example, []

    def example(self, split, index):
        if split == "validation" and index >= 20 and not told:
            told.append(driver.terminate(None))
        return real(self, split, index)

    monkeypatch.setattr(copy.Copy, "example", example)
    ran = meet(Fault(75, ("SIGTERM", "saved step 4"), looking))
    assert ran.steps == [4, 3] and not [row for row in ran.rows if row["split"] == "validation"]
    driver.same_as(want, meet(Fault(tree=looking)))


GROWING = {"data": {"name": "faulty.sources:Growing"}, "loader": {"batch_size": 4, "buckets": [4, 8]}}
LATE = {**launch.tiny("train.steps=12", "train.checkpoint_every=1"), **GROWING}


def test_a_model_too_big_is_told_with_what_to_do(meet):
    """Row 51: when it meets the first long batch, behind some checkpoints."""
    words = (
        "out of memory",
        "loader.batch_size=4",
        "raise train.accumulation_steps",
        "parallel.fsdp",
        "checkpoints are unchanged",
    )
    ran = meet(Fault(2, words, {**LATE, "model": {"name": "faulty.models:Hungry"}}))
    assert re.search(r" \d{14} bytes ", ran.outcome.err)
    assert launch.final(ran.folder)[0] == ran.steps[0] >= 1


def test_a_machine_without_memory_is_told(tmp_path, monkeypatch):
    """Row 51: also where a source asks for too much."""

    def example(self, split, index):
        raise MemoryError("Unable to allocate 8.00 EiB")

    monkeypatch.setattr(copy.Copy, "example", example)
    file = launch.write(tmp_path / "c.json", launch.TINY)
    outcome = launch.main("train", "--config", file, "--workdir", tmp_path / "run", "--quiet")
    assert outcome.code == 2 and len(outcome.err.splitlines()) == 1
    for words in ("this machine", "(Unable to allocate 8.00 EiB)", "loader.batch_size=4 and loader.prefetch=4: lower"):
        assert words in outcome.err
    assert "checkpoints" not in outcome.err


def test_more_programs_than_buckets_are_told(meet, monkeypatch):
    """Row 52: two batches have one more array."""
    real = Batches.part
    more = lambda self, step, rows: {"more": np.zeros(4)} if step in (5, 6) and self.split == "train" else {}
    monkeypatch.setattr(Batches, "part", lambda self, step, rows: real(self, step, rows) | more(self, step, rows))
    ran = meet(Fault(tree=signs(), logged=("compiled 2 times for 1 bucket",)))
    lines = [json.loads(line) for line in (ran.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["jit_compiles"] for line in lines] == [1] * 5 + [2] * 11
    monkeypatch.setattr(Batches, "part", real)
    two = {**LATE, "model": {"name": "faulty.models:Bag"}}
    assert "compiled" not in meet(Fault(tree=two), ran.folder.with_name("two")).log


@pytest.mark.slow
def test_an_error_in_a_users_model_points_to_the_users_file(tmp_path):
    """Row 53: and what was being saved is saved. In training it would be found before the first step."""
    tree = {**LATE, "model": {"name": "faulty.models:Fused"}, "train": {**LATE["train"], "eval_every": 3}}
    tree["data"] = {**tree["data"], "validation": True}
    run = tmp_path / "run"
    process = launch.start("train", "--config", launch.write(tmp_path / "c.json", tree), "--workdir", run)
    outcome = launch.end(process)
    assert outcome.code == 1 and launch.gone(process.pid)
    assert "RuntimeError: the fuse is gone" in outcome.err.splitlines()
    assert str(Path("faulty", "models.py")) in outcome.err
    status = json.loads((run / "status.json").read_text())
    assert status["status"] == "failed" and "the fuse is gone" in status["error"]
    assert launch.final(run)[0] == status["step"] - 1 == 2


# 2, 21: what takes long.


@pytest.mark.slow
def test_killed_twenty_times_while_saving(tmp_path):
    """Row 2: 48 MB a state; whatever was whole before the kill is what the next start goes on from."""
    tree = launch.tiny("train.steps=1000", "train.checkpoint_every=1", "data.examples=8")
    tree["model"] = {"name": "faulty.models:Bag", "width": 400_000}  # quick to compute, slow to write
    file, run, random = launch.write(tmp_path / "c.json", tree), tmp_path / "run", np.random.default_rng(0)
    checkpoints, whole = Checkpoints(run / "ckpt"), [0]
    starts = lambda: json.loads((run / "run.json").read_text())["starts"] if (run / "run.json").exists() else []
    newest = lambda: (checkpoints.steps() or [0])[0]
    for kill in range(20):
        process = launch.start("train", "--config", file, "--workdir", run)
        launch.until(lambda kill=kill: len(starts()) > kill, process)
        if kill % 2:  # else perhaps before anything new is whole
            launch.until(lambda: newest() > whole[-1], process)
        launch.until(lambda: list((run / "ckpt").glob("*.orbax-checkpoint-tmp*")), process)
        time.sleep(random.uniform(0, 0.3))
        process.kill()
        launch.end(process)
        assert launch.gone(process.pid)
        whole.append(newest())
    assert [start["step"] for start in starts()] == whole[:-1] and whole[-1] >= 10
    outcome = launch.main("train", "--config", file, "--workdir", run, f"--config.train.steps={whole[-1] + 1}")
    assert outcome.code == 0 and not list((run / "ckpt").glob("*.corrupt*"))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [(0, 2), (2, 0)])
def test_workers_may_change_between_starts(meet, runs, workers):
    """Row 21."""
    first, then = (f"loader.num_workers={n}" for n in workers)
    ran = meet(Fault(tree=(*BASE, then), past=((*BASE, first), 6)))
    assert ran.starts == [0, 6]
    driver.same_as(runs.folder(BASE), ran)
