"""Faults of the run folder itself: who owns it, and what its small files are. Rows 58 and 59 of `table.py`."""

import json
import shutil
import time

import driver
import jax.numpy as jnp
import launch
import pytest
from driver import BASE, Fault

from seqjax.search import trials
from seqjax.search.executors.local import Executor
from seqjax.search.trials import Trial
from seqjax.training import damage
from seqjax.training.checkpoint import NEW, TEMPORARY, Checkpoints
from seqjax.training.experiment import resolve
from seqjax.training.workdir import Workdir
from seqjax.types import WorkdirError

HALF = (BASE, 6)  # a run that was asked to stop at step 6


# 58: a run owns its folder.


def removed(folder):
    shutil.rmtree(folder)


def replaced(folder):
    shutil.move(folder, f"{folder}.old")
    folder.mkdir()


def unlocked(folder):
    (folder / ".lock").unlink()


def locked_anew(folder):
    """As by a second run, which got the lock of a folder that had lost it."""
    unlocked(folder)
    Workdir(folder).lock().unlock()


LOST = {f.__name__: f for f in (removed, replaced, unlocked, locked_anew)}


@pytest.mark.parametrize("how", LOST)
def test_a_run_that_lost_its_folder_ends(meet, tmp_path, how):
    """At its next line of metrics, before its next save; nothing is made anew in its place."""
    left = {}

    def lose(folder):
        while not (folder / "ckpt" / "2" / damage.FILES).exists():  # a save under way would not be stopped
            time.sleep(0.01)
        LOST[how](folder)
        left.update(launch.tree_of(folder) if folder.exists() else {})

    meet(Fault(5, ("was removed, replaced, or lost its .lock", "run the same command again"), at=(3, lose)))
    if how in ("removed", "replaced"):
        assert (tmp_path / "run").exists() == (how == "replaced") and not left
        assert not list((tmp_path / "run").rglob("*"))
    else:
        status = json.loads((tmp_path / "run" / "status.json").read_text())
        assert status["status"] == "running"  # of the one who has it now


@pytest.mark.parametrize("how", LOST)
def test_nothing_is_written_into_a_folder_that_is_no_longer_ours(tmp_path, how):
    workdir = Workdir(tmp_path / "run").lock()
    workdir.check()
    LOST[how](tmp_path / "run")
    for write in (
        workdir.check,
        lambda: workdir.status("done", 3),
        lambda: workdir.write("a.json", {}),
        lambda: workdir.update("results.json", {}),
    ):
        with pytest.raises(WorkdirError, match=r"removed, replaced|cannot write .*No such file"):
            write()
    workdir.unlock()
    assert {p.name for p in tmp_path.glob("run/*.json")} == set()


@pytest.mark.parametrize("how", [removed, replaced])
def test_a_save_does_not_make_the_folder_anew(tmp_path, how):
    """Nor does it write, clean up or delete in one that took its place."""
    workdir = Workdir(tmp_path / "run").lock()
    checkpoints = Checkpoints(workdir.checkpoints, 1, workdir.check)
    checkpoints.save({"a": jnp.zeros(2)}, {"step": 1})
    checkpoints.wait()
    how(tmp_path / "run")
    others = [tmp_path / "run" / "ckpt" / name for name in ("2", f"3{TEMPORARY}", f"2{NEW}")]
    for other in others if how is replaced else ():
        other.mkdir(parents=True)
    for action in (lambda: checkpoints.save({"a": jnp.ones(2)}, {"step": 4}), checkpoints.tidy):
        with pytest.raises(WorkdirError, match="removed, replaced"):
            action()
            checkpoints.wait()
    workdir.unlock()
    if how is removed:
        assert not (tmp_path / "run").exists()
    else:
        assert sorted((tmp_path / "run" / "ckpt").iterdir()) == sorted(others)


def test_checkpoints_without_a_config_are_not_gone_on_with(meet, tmp_path):
    """Nothing says what they were trained with; back in its place, it is compared as ever."""
    config = tmp_path / "run" / "config.json"
    other = (*BASE, "optim.learning_rate=0.5")
    lost = lambda folder: config.rename(tmp_path / "kept.json")
    ran = meet(Fault(5, ("has checkpoints but no config.json", "--print_config"), other, past=HALF, damage=lost))
    assert ran.starts == [0] and ran.steps == [6, 4]
    ran = meet(Fault(damage=lambda folder: (tmp_path / "kept.json").rename(config)))
    assert ran.starts == [0, 6]


def test_what_is_lost_of_earlier_starts_is_said(meet):
    lost = lambda folder: (folder / "run.json").unlink()
    ran = meet(Fault(past=HALF, damage=lost, logged=("has no run.json",)))
    assert ran.starts == [6]


def test_a_search_that_lost_its_folder_ends(tmp_path):
    """Its trials would each make it anew."""
    owner = Workdir(tmp_path / "search").lock()
    shutil.rmtree(tmp_path / "search")
    trial = Trial(tmp_path / "search" / "a", resolve(launch.tiny()))
    with Executor() as executor, pytest.raises(WorkdirError, match="was removed"):
        trials.run([trial], executor, check=owner.check)
    owner.unlock()
    assert not (tmp_path / "search").exists()


# 59: what its files are.


def changed(name, old, new):
    def change(folder):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return change


def linked(name):
    def link(folder):
        (folder / name).rename(folder.parent / "outside")
        (folder.parent / "inside").write_bytes((folder.parent / "outside").read_bytes())
        (folder / name).symlink_to(folder.parent / "outside")

    return link


SPOILT = {
    "a number of the config": (changed("config.json", '"width": 16', '"width": 17'), ("config.json", "was changed")),
    "a number of run.json": (changed("run.json", '"step": 0', '"step": 1'), ("run.json", "was changed")),
    "a number of the status": (changed("status.json", '"step": 6', '"step": 7'), ("status.json", "was changed")),
    "a number of a row": (changed("metrics.jsonl", '"step": 1', '"step": 2'), ("metrics.jsonl, line 1", ".damaged")),
    "a folder": (
        lambda f: (f / "status.json").unlink() or (f / "status.json").mkdir(),
        ("status.json cannot be read",),
    ),
    "nested": (lambda f: (f / "status.json").write_text("[" * 10**5), ("status.json is not JSON", "deep")),
    "another config": (
        lambda f: (f / "config.json").write_text(json.dumps({"model": 3})),
        ("config.json", "model"),
    ),
    **{f"{name} a link": (linked(name), (name, "link")) for name in (".lock", "config.json", "metrics.jsonl")},
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_file_that_is_not_what_it_was_is_named(meet, tmp_path, how):
    """And nothing outside is written."""
    damage, words = SPOILT[how]
    ran = meet(Fault(5, words, past=HALF, damage=damage))
    assert ran.steps == [6, 4] and len(ran.starts) == 1
    if "link" in how:
        assert (tmp_path / "outside").read_bytes() == (tmp_path / "inside").read_bytes()


def test_rows_that_are_damaged_are_set_aside_and_the_run_goes_on(meet, runs):
    """The first start says what is lost, the second goes on with the rows that are whole, to the same bits."""
    damage = changed("metrics.jsonl", '"step": 1', '"step": 2')
    ran = meet(Fault(5, ("line 1 was changed", "kept as metrics.jsonl.damaged"), past=HALF, damage=damage))
    assert (ran.folder / "metrics.jsonl.damaged").is_file()
    ran = meet(Fault())
    whole = runs.folder(BASE)
    assert launch.final(ran.folder) == launch.final(whole)
    lost = [row for row in launch.rows(whole) if row not in ran.rows]
    assert ran.rows == launch.rows(whole)[1:] and [row["step"] for row in lost] == [1]


def test_a_run_that_is_done_tells_of_damaged_metrics_too(meet):
    damage = changed("metrics.jsonl", '"step": 3', '"step": 2')
    ran = meet(Fault(5, ("metrics.jsonl, line 3",), past=(BASE, None), damage=damage))
    again = launch.main("train", "--config", ran.folder / "config.json", "--workdir", ran.folder)
    assert again.code == 0 and again.out.startswith("already done at step 12"), again


@pytest.mark.parametrize("command", ["evaluate", "report"])
def test_results_of_a_changed_config_are_refused(runs, tmp_path, command):
    shutil.copytree(runs.folder(*HALF), tmp_path / "run")
    changed("config.json", '"examples": 64', '"examples": 65')(tmp_path / "run")
    args = ("--workdir", tmp_path / "run") if command == "evaluate" else (tmp_path / "run",)
    driver.said(launch.main(command, *args), 5, (tmp_path / "run" / "config.json", "was changed after it was written"))
