"""Runs for tests: a tiny config, the command line in this process or in one of its own, and what a run leaves."""

import contextlib
import copy
import fcntl
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import seqjax
from seqjax import cli, config, verify
from seqjax.training.experiment import Schema
from seqjax.training.stored import digest
from seqjax.words import settled

TINY = {
    "data": {"name": "copy", "length": 3, "symbols": 4, "examples": 10},
    "task": {"name": "next_token"},
    "model": {"name": "stack", "width": 8, "layers": 1, "expansion": 0, "mixer": {"name": "gru"}},
    "optim": {"learning_rate": 0.01, "schedule": "constant"},  # any number of steps by the same program
    "loader": {"batch_size": 4},
    "train": {"steps": 4, "log_every": 1},
}


def tiny(*overrides: str) -> dict:
    """A config that trains in a second: `tiny("train.steps=8", "model.dropout=0.1")`."""
    return settled(Schema, config.override(copy.deepcopy(TINY), overrides))


def write(path: Path, tree: dict) -> str:
    """Writes a config file and returns its name."""
    path.write_text(json.dumps(tree))
    return str(path)


def text_tree(folder: Path) -> dict:
    """A language model of characters; its text is put into the folder."""
    (folder / "a.txt").write_text("the cat sat on the mat. " * 20)
    tree = tiny()
    tree["data"] = {"name": "text", "path": str(folder / "a.txt"), "length": 8}
    tree["model"]["mixer"] = {"name": "attention", "heads": 2, "max_length": 40}
    return tree


PAIRS = {
    "data": {"name": "reverse", "length": 3, "symbols": 3, "examples": 8},
    "model": {"name": "seq2seq", "width": 16, "layers": 1, "encoder_layers": 1, "expansion": 0, "mixer": "gru",
              "encoder": "gru"},
}  # fmt: skip
TASKS = {"copy": lambda folder: tiny(), "text": text_tree, "pairs": lambda folder: tiny() | PAIRS}


def trained(root: Path, task: str) -> Path:
    """The folder of a run of a task, which all tests share: copy it before anything is written to it.

    It takes four steps, and evaluates and saves at every second one. Of all processes, the first to ask makes it.
    """
    with open(root / f"{task}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = root / task
        if not (folder / "done").exists():
            folder.mkdir()
            every = ("--config.train.eval_every=2", "--config.train.checkpoint_every=2")
            file = write(folder / "c.json", TASKS[task](folder))
            outcome = main("train", "--config", file, "--workdir", folder / "run", *every)
            assert outcome.code == 0, outcome
            (folder / "done").touch()
    return folder / "run"


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


def main(*args) -> Outcome:
    """`seqjax ARGS` in this process."""
    out, err = io.StringIO(), io.StringIO()
    # A command that fails collects garbage before its process ends; this one goes on, with far more of it.
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), mock.patch.object(cli, "gc"):
        try:
            cli.main([str(a) for a in args])
        except SystemExit as end:
            code = end.code
    return Outcome(code, out.getvalue(), err.getvalue())


def start(*args, **env) -> subprocess.Popen:
    """`seqjax ARGS` in a process and session of its own."""
    return run("-m", "seqjax", *args, **env)


def run(*args, **env) -> subprocess.Popen:
    """`python ARGS` in a process and session of its own."""
    paths = [str(Path(seqjax.__file__).parents[1]), *sys.path]  # what a test can import, its runs can
    return subprocess.Popen(
        [sys.executable, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **env},
    )


def end(process: subprocess.Popen, timeout: float = 120) -> Outcome:
    """Waits for a process; after `timeout` seconds it has hung, and is killed."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return Outcome(process.returncode, out, err)


def until(condition, process: subprocess.Popen, timeout: float = 120):
    """Waits until `condition()` is true, and returns what it gave; fails if the process ends before."""
    begin = time.monotonic()
    while not (value := condition()):
        if process.poll() is not None:
            raise AssertionError(f"ended with {process.returncode}: {process.communicate()}")
        if time.monotonic() - begin > timeout:
            process.kill()
            raise AssertionError(f"nothing for {timeout} s")
        time.sleep(0.01)
    return value


def rows(workdir: Path) -> list[dict]:
    """metrics.jsonl without a torn last line and without what depends on the clock."""
    file = Path(workdir) / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    found = [json.loads(line) for line in lines if line.endswith("\n")]
    return [{k: v for k, v in row.items() if k not in verify.CLOCK} for row in found]


def tree_of(folder: Path) -> dict[str, tuple]:
    """Every file of a folder, with time and content."""
    files = sorted(f for f in Path(folder).rglob("*") if f.is_file())
    return {str(f.relative_to(folder)): (f.stat().st_mtime_ns, f.read_bytes()) for f in files}


def session(leader: int) -> list[int]:
    """The processes of a session that still live (Linux)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, sid = stat.read_text().rpartition(")")[2].split()[:4]
            if int(sid) == leader and state != "Z":
                found.append(int(stat.parent.name))
    return found


def final(workdir: Path) -> tuple[int, str]:
    """The step and the digest of the newest checkpoint."""
    state, meta = verify.last(workdir)
    return meta["step"], digest(state)


def gone(leader: int, seconds: float = 5) -> bool:
    """Whether no process of a session is left after a few seconds: the last may still be ending."""
    deadline = time.monotonic() + seconds
    while (left := session(leader)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not left
