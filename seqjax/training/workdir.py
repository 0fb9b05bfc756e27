"""The run folder: its lock and its small files.

config.json    the resolved config; a valid --config
run.json       parameters, FLOPs, baselines, versions, hardware, one entry per start
tokenizer-<name>.json  the tokenizer, if one was trained; see `tokenizer_file`
metrics.jsonl  one object per line; cut back to the restored step on resume
status.json    running, preempted, failed or done
results.json   results of `evaluate`; samples.json: texts of `generate`; states.json, thresholds.json: of evaluators
ckpt/          the newest checkpoints, ckpt_best/ the best on validation
"""

import dataclasses
import datetime
import errno
import fcntl
import math
import os
import socket
import tempfile
from pathlib import Path

from seqjax.training import files
from seqjax.training.records import Result, Status, record, wrong_row
from seqjax.types import ConfigError, WorkdirError

WRITTEN = ("config.json", "run.json", "metrics.jsonl", "status.json")  # every run writes these


class Workdir:
    """A run folder. Call `lock` before writing into it; the lock lives as long as this object.

    After that, every write first checks that the lock still exists. If the lock or the folder was removed or replaced,
    the run ends, and nothing is made again in its place.

    Raises:
      WorkdirError: the folder cannot be made, is not writable, or another run has locked it.
    """

    def __init__(self, path: str | Path, writes: bool = True):
        self.writes = writes  # only one of several processes that share the folder writes
        self.path = Path(path).absolute()
        self.checkpoints = self.path / "ckpt"
        self.best = self.path / "ckpt_best"
        self._lock = None

    def lock(self, shared: bool = False) -> "Workdir":
        """Makes the folder, checks that it is writable, and takes its lock: alone, or with others that share it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
            for folder in (self.checkpoints, self.best):
                if folder.exists() and not folder.is_dir():
                    raise NotADirectoryError(errno.ENOTDIR, f"{folder.name} is a file, not a folder")
            for file in (self.path / name for name in WRITTEN):
                if file.is_symlink():
                    raise OSError(errno.ELOOP, "", str(file))
            # Held until the process ends. It has no buffer, so closing it writes nothing.
            self._lock = open(self.path / ".lock", "a+b", buffering=0, opener=files.own)  # noqa: SIM115
            self._hold(fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            self.check()
        except WorkdirError:
            self.unlock()
            raise
        except OSError as error:
            self.unlock()
            where = error.filename if error.errno == errno.ELOOP else self.path
            raise WorkdirError(f"cannot write to {where}: {files.reason(error)}; choose another --workdir.") from error
        return self

    def _hold(self, kind: int) -> None:
        """Takes the lock, and writes which process has it."""
        try:
            fcntl.flock(self._lock, kind | fcntl.LOCK_NB)
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
        """Releases the lock, for a process that continues with other work."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def check(self) -> None:
        """Raises WorkdirError if this process holds a lock that is not in the folder any more."""
        if self._lock is None:
            return
        try:
            there = os.lstat(self.path / ".lock")
        except (FileNotFoundError, NotADirectoryError):
            there = None
        except OSError as error:
            raise WorkdirError(f"cannot check {self.path}/.lock: {error.strerror}.") from error
        # The lock is open, so no other file can get its inode.
        if there and os.path.samestat(os.fstat(self._lock.fileno()), there):
            return
        raise WorkdirError(
            f"{self.path} was removed, replaced, or lost its .lock while this process worked in it: another run may "
            "use it now, so this one writes nothing more. If no run uses it, run the same command again."
        )

    def read(self, name: str, default=None):
        """The object in a JSON file of the folder, or `default` if the file does not exist."""
        tree = files.read_json(self.path / name)
        return default if tree is None else tree

    def record(self, name: str, kind):
        """The dataclass that a JSON file of the folder describes, or None if the file does not exist."""
        tree = self.read(name)
        return None if tree is None else record(kind, tree, self.path / name)

    def results(self) -> dict[str, Result]:
        """The result of each split in results.json."""
        found = self.read("results.json", {})
        return {split: record(Result, tree, self.path / "results.json") for split, tree in found.items()}

    def write(self, name: str, tree) -> None:
        """Writes a JSON file completely or not at all."""
        if self.writes:
            self.check()
            files.write_json(self.path / name, tree)

    def update(self, name: str, changes: dict) -> None:
        """Sets keys of a JSON file; a lock makes several processes do this one after the other."""
        try:
            lock = open(self.path / f".{name}.lock", "ab", opener=files.own)  # noqa: SIM115 closed below
        except OSError as error:
            raise files.unwritten(self.path / f".{name}.lock", error) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.write(name, {**self.read(name, {}), **changes})

    def remove(self, *names: str) -> None:
        """Deletes files of the folder that exist."""
        for name in names if self.writes else ():
            self.check()
            try:
                (self.path / name).unlink(missing_ok=True)
            except OSError as error:
                raise files.unwritten(self.path / name, error) from error

    def config(self) -> dict:
        """The resolved config of the run in this folder."""
        tree = self.read("config.json")
        if tree is None:
            raise ConfigError(f"{self.path} has no config.json: it is not the folder of a run.")
        return tree

    def status(self, status: str, step: int, error: str | None = None) -> None:
        """Writes the status of the run; at its end, also the seal of the last row of metrics.jsonl."""
        if self.writes:
            seals = [] if status == "running" else files.read_rows(self._metrics, wrong_row).seals
            self.write("status.json", dataclasses.asdict(Status(status, step, error, seals[-1] if seals else None)))

    @property
    def _metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    def metrics(self) -> files.Rows:
        """The rows of metrics.jsonl, and which of them are damaged or lost."""
        while True:
            before = self.record("status.json", Status)
            found = files.read_rows(self._metrics, wrong_row)
            lost = before and before.metrics not in (None, *found.seals)
            if self.record("status.json", Status) == before:  # else the run wrote rows while they were read: read again
                break
        if lost and not found.damage:
            found.damage.append("the rows at its end are lost")
        return found

    def whole(self) -> files.Rows:
        """The rows of metrics.jsonl. Raises WorkdirError if one is damaged or lost."""
        found = self.metrics()
        if found.damage:
            raise WorkdirError(
                f"{self._about(found)}: restore the file from a copy, or run `seqjax train` on this folder again, "
                "which renames the file and keeps its good rows."
            )
        return found

    def mend(self) -> None:
        """Renames a damaged metrics.jsonl and writes a new one with its good rows. Then it raises WorkdirError."""
        found = self.metrics()
        if not found.damage or not self.writes:
            return
        self.check()
        names = [f"{self._metrics.name}.damaged{n}" for n in ("", *range(2, 1000))]
        aside = next(self.path / name for name in names if not os.path.lexists(self.path / name))
        if there := self._metrics.exists():
            files.write(aside, self._metrics.read_bytes())
        files.write_rows(self._metrics, found.rows)
        if status := self.record("status.json", Status):
            self.status(status.status, status.step, status.error)
        raise WorkdirError(
            f"{self._about(found)}: {f'it is kept as {aside.name}' if there else 'the file is gone'}; the same command "
            f"continues with the {len(found.rows)} good rows."
        )

    def append(self, step: int, owed: bool = False) -> files.Appender:
        """Opens metrics.jsonl to append after the rows of steps up to `step`, none of which may be damaged.

        It drops later rows, an incomplete last line, and the validation row of `step` if that evaluation is `owed`.
        """
        path, found = self._metrics, files.read_rows(self._metrics, wrong_row)
        if found.damage and step:
            raise WorkdirError(f"{path}, {found.damage[0]}: run the same command again, which renames the file.")
        again = lambda row: owed and (row["step"], row.get("split")) == (step, "validation")
        kept = [row for row in found.rows if row["step"] <= step and not again(row)]
        return files.Appender(path, found, kept)

    def _about(self, found: files.Rows) -> str:
        more = f" (and {len(found.damage) - 1} more)" if len(found.damage) > 1 else ""
        return f"{self._metrics}, {found.damage[0]}{more}"


def finite(row: dict) -> dict:
    """Replaces numbers that are not finite with None, as JSON has no NaN."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
