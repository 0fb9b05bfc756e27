"""The run folder: its lock and its small files.

config.json    resolved; itself a valid --config
run.json       parameters, FLOPs, baselines, versions, hardware, one entry per start
metrics.jsonl  one object per line; cut back to the restored step on resume
status.json    running, preempted, failed or done
results.json   what `evaluate` found, samples.json what `generate` wrote
ckpt/          the newest checkpoints, ckpt_best/ the best on validation
"""

import contextlib
import datetime
import errno
import fcntl
import json
import math
import os
import shutil
import socket
import tempfile
from pathlib import Path

from seqjax.types import ConfigError, WorkdirError


class Workdir:
    """A run folder. `lock` it to write into it; the lock lives as long as this object.

    Raises:
      WorkdirError: it cannot be made, is not writable, or another run holds it.
    """

    def __init__(self, path: str | Path, writes: bool = True):
        self.writes = writes  # of several processes that share it, one does
        self.path = Path(path).absolute()
        self.checkpoints = self.path / "ckpt"
        self.best = self.path / "ckpt_best"
        self._lock = None

    def lock(self) -> "Workdir":
        """Makes the folder, tries to write into it, and takes its lock."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
            for folder in (self.checkpoints, self.best):
                if folder.exists() and not folder.is_dir():
                    raise NotADirectoryError(errno.ENOTDIR, f"{folder.name} there is a file")
            # Held until the process ends. Without a buffer nothing is left to be written when it is closed.
            self._lock = open(self.path / ".lock", "a+b", buffering=0)  # noqa: SIM115
            self._hold()
        except OSError as error:
            self.unlock()
            raise WorkdirError(f"cannot write to {self.path}: {error.strerror}; choose another --workdir.") from error
        return self

    def _hold(self) -> None:
        """Takes the lock, and writes who has it."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.seek(0)
            raise WorkdirError(
                f"{self.path} is in use by {self._lock.read().decode(errors='replace').strip() or 'another process'}: "
                "wait for it, or choose another --workdir."
            ) from error
        self._lock.truncate(0)
        now = datetime.datetime.now().isoformat(timespec="seconds")
        self._lock.write(f"process {os.getpid()} on {socket.gethostname()}, started {now}".encode())

    def unlock(self) -> None:
        """Gives the lock back, for a process that goes on to do other things."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def read(self, name: str, default=None):
        """The object in a JSON file of the folder, or `default` if there is no such file."""
        file = self.path / name
        if not file.exists():
            return default
        try:
            tree = json.loads(file.read_text())
        except ValueError as error:
            raise WorkdirError(f"{file} is not JSON ({error}): restore it, or choose another --workdir.") from error
        if not isinstance(tree, dict):
            raise WorkdirError(
                f"{file} holds a {type(tree).__name__}, wanted an object: restore it, or choose another --workdir."
            )
        return tree

    def write(self, name: str, tree) -> None:
        """Writes a JSON file whole or not at all."""
        if not self.writes:
            return
        file = self.path / name
        temporary = file.with_name(f".{name}.{os.getpid()}")
        text = json.dumps(tree, indent=1)
        try:
            with open(temporary, "w") as f:
                f.write(text)
                f.flush()
                os.fsync(f.fileno())
            temporary.replace(file)
        except OSError as error:
            raise _unwritten(file, error) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)  # half-written, if it is still there

    def update(self, name: str, changes: dict) -> None:
        """Sets keys of a JSON file, one process after the other."""
        try:
            lock = open(self.path / f".{name}.lock", "ab")  # noqa: SIM115 closed below
        except OSError as error:
            raise _unwritten(self.path / name, error) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.write(name, {**self.read(name, {}), **changes})

    def remove(self, *names: str) -> None:
        """Deletes files of the folder, where they are."""
        for name in names if self.writes else ():
            (self.path / name).unlink(missing_ok=True)

    def config(self) -> dict:
        """The resolved config of the run that lives here."""
        tree = self.read("config.json")
        if tree is None:
            raise ConfigError(f"{self.path} has no config.json: it is not the folder of a run.")
        return tree

    def status(self, status: str, step: int, error: str | None = None) -> None:
        """Says what became of the run."""
        self.write("status.json", {"status": status, "step": step, "error": error})


class MetricsFile:
    """metrics.jsonl: appended to and flushed line by line."""

    def __init__(self, path: Path, step: int, owed: bool = False):
        """Opens it behind the lines of steps up to `step`; later ones, and a torn last line, are dropped, and so are
        validation metrics of `step` itself, if they are still `owed`."""
        self.path = path
        lines = path.read_text(errors="replace").splitlines(keepends=True) if path.exists() else []
        kept = []
        for line in lines:
            try:
                row = json.loads(line)
                again = owed and (row["step"], row.get("split")) == (step, "validation")
                if line.endswith("\n") and row["step"] <= step and not again:
                    kept.append(line)
            except (ValueError, TypeError, KeyError):
                continue
        if kept != lines:
            temporary = path.with_suffix(".tmp")
            temporary.write_text("".join(kept))
            temporary.replace(path)
        self._file = open(path, "a")  # noqa: SIM115 open for the life of the run

    def write(self, row: dict) -> None:
        """Appends one row."""
        try:
            self._file.write(json.dumps(finite(row)) + "\n")
            self._file.flush()
        except OSError as error:
            raise _unwritten(self.path, error) from error

    def close(self) -> None:
        self._file.close()


def _unwritten(file: Path, error: OSError) -> WorkdirError:
    return WorkdirError(f"cannot write {file}: {error.strerror} ({free(file.parent)}).")


def free(folder: Path) -> str:
    """The room that is left where a folder is, or would be."""
    place = next(p for p in (folder, *folder.parents) if p.exists())
    return f"{shutil.disk_usage(place).free:,} bytes free"


def finite(row: dict) -> dict:
    """JSON has no NaN: what is not finite is written as null."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
