"""One fault after another: what is trained, what is done to it, and what must come of it.

Whatever the fault, `meet` itself holds that the run ends in time and says in one last sentence what to do, that nothing
of it lives on, and that the checkpoints it found are as they were.
"""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import launch
import pytest

from seqjax.training.checkpoint import Checkpoints
from seqjax.training.journal import Journal

LIMIT = 60  # seconds; what takes longer hangs
BASE = (
    "data.examples=64",
    "model.width=16",
    "model.dropout=0.1",
    "optim.schedule=constant",
    "train.steps=12",
    "train.checkpoint_every=2",
)


class Ran(NamedTuple):
    """What a fault left behind."""

    folder: Path
    outcome: launch.Outcome
    log: str

    @property
    def rows(self) -> list[dict]:
        return launch.rows(self.folder)

    @property
    def steps(self) -> list[int]:
        return Checkpoints(self.folder / "ckpt").steps()

    @property
    def starts(self) -> list[int]:
        return [start["step"] for start in json.loads((self.folder / "run.json").read_text())["starts"]]


class Fault(NamedTuple):
    """A row of the table.

    past: what was trained before, in the same folder, and the step at which it was asked to stop; None: nothing was.
    damage: what is done to the folder before the start. at: a step, and what is done to the folder when it is logged.
    words: of the last sentence. logged: of the log. check: what else must hold.
    """

    code: int = 0
    words: tuple = ()
    tree: Any = BASE
    past: tuple[Any, int | None] | None = None
    damage: Callable[[Path], Any] = lambda folder: None
    at: tuple[int, Callable[[Path], Any]] | None = None
    args: tuple = ()
    logged: tuple = ()
    check: Callable[[Ran], Any] = lambda ran: None


def tree(overrides) -> dict:
    """BASE is the start of every config here, unless it is a dict already."""
    return overrides if isinstance(overrides, dict) else launch.tiny(*overrides)


class Runs:
    """Runs that met no fault, each made once: what others go on from, and are compared with."""

    def __init__(self, root: Path):
        self.root, self.made = root, {}

    def folder(self, overrides, stop: int | None = None) -> Path:
        """The folder of a run to the end, or to the step at which it is asked to stop."""
        key = str((overrides, stop))
        if key not in self.made:
            self.made[key] = folder = self.root / str(len(self.made))
            file = launch.write(self.root / f"{len(self.made)}.json", tree(overrides))
            with pytest.MonkeyPatch.context() as patch:
                if stop:
                    strike(patch, folder, stop, terminate)
                outcome = launch.main("train", "--config", file, "--workdir", folder)
            assert outcome.code == (75 if stop else 0), outcome
        return self.made[key]


@contextlib.contextmanager
def deadline():
    """Raises in this process what would be a hang for its user."""

    def late(*_):
        raise TimeoutError(f"nothing for {LIMIT} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def meet(fault: Fault, folder: Path, config: Path, runs: Runs, monkeypatch, caplog) -> Ran:
    """Lets a run meet a fault, in this process, and holds what holds for all of them."""
    if fault.past is not None:
        shutil.copytree(runs.folder(*fault.past), folder, dirs_exist_ok=True)
    before = checkpoints(folder)
    fault.damage(folder)
    sound = {name: files for name, files in checkpoints(folder).items() if files == before.get(name)}
    if fault.at:
        strike(monkeypatch, folder, *fault.at)
    caplog.clear()
    with deadline():
        file = launch.write(config, tree(fault.tree))
        outcome = launch.main("train", "--config", file, "--workdir", folder, *fault.args)
    ran = Ran(folder, outcome, caplog.text)
    said(outcome, fault.code, fault.words)
    assert all(word in ran.log for word in fault.logged), ran.log
    unharmed(ran, sound)
    assert not multiprocessing.active_children()
    fault.check(ran)
    return ran


def strike(monkeypatch, folder: Path, step: int, action: Callable) -> None:
    """Has something done to the folder as soon as a step is logged, once."""
    write, done = Journal.write, []

    def struck(journal, row):
        write(journal, row)
        if row["step"] >= step and not done:
            done.append(action(folder))

    monkeypatch.setattr(Journal, "write", struck)


def terminate(folder: Path) -> None:
    """A signal to this process, which a run here takes for one to itself."""
    os.kill(os.getpid(), signal.SIGTERM)


def said(outcome: launch.Outcome, code: int, words=()) -> None:
    """The code, and one plain sentence at the end; what is indented below it is its list."""
    assert outcome.code == code, outcome
    assert "Traceback" not in outcome.out + outcome.err, outcome
    if not code:
        return
    lines = outcome.err.splitlines()
    last = max(i for i, line in enumerate(lines) if not line.startswith("  "))
    assert lines[last].startswith("seqjax: ") and len(lines) - last <= 30, outcome.err
    for word in words:
        assert str(word) in "\n".join(lines[last:]), (word, outcome.err)


def checkpoints(folder: Path) -> dict[str, dict]:
    """Every checkpoint's files."""
    return {p.name: launch.tree_of(p) for p in (folder / "ckpt").glob("*") if p.is_dir() and p.name.isdigit()}


def unharmed(ran: Ran, sound: dict) -> None:
    """Sound checkpoints are as they were, unless newer ones took their place."""
    now = checkpoints(ran.folder)
    newer = sorted(map(int, now))
    for name, files in sound.items():
        if name in now:
            assert now[name] == files, name
        else:
            assert newer and newer[0] > int(name), f"checkpoint {name} is gone; there are {newer}"


def same_as(reference: Path, ran: Ran) -> None:
    """The same bits and the same metrics as a run that met no fault."""
    assert launch.final(ran.folder) == launch.final(reference)
    assert ran.rows == launch.rows(reference)


# Damage.


def arrays(folder: Path) -> Path:
    """The file of a checkpoint that holds its arrays."""
    return max(folder.rglob("d/*"), key=lambda f: f.stat().st_size)


def spoil(name: str, how: str) -> Callable[[Path], None]:
    """Damages a file of the newest checkpoint: `name` in its folder, or "" for that of its arrays."""

    def damage(folder: Path) -> None:
        newest = folder / "ckpt" / str(Checkpoints(folder / "ckpt").steps()[0])
        file = newest / name if name else arrays(newest)
        good = file.read_bytes()
        if how == "deleted":
            file.unlink()
        elif how == "cut":
            file.write_bytes(good[: len(good) // 2])
        elif how == "a bit":
            middle = len(good) // 2
            file.write_bytes(good[:middle] + bytes([good[middle] ^ 16]) + good[middle + 1 :])
        else:
            file.write_bytes(b"\0" * len(good))

    return damage
