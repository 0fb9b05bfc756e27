"""Jobs on other machines with a shared file system. A job stops when its lease file is deleted or too old."""

import contextlib
import dataclasses
import os
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seqjax.search.executors import _base
from seqjax.training import files
from seqjax.types import ConfigError, Preempted

RENEW = 10.0  # seconds between two renewals of a lease
LEASE = 120.0  # a job stops if its lease is not renewed for this many seconds
LOST = Preempted.exit_code  # the code of a job that ended without one: its machine is lost, another one can go on


@dataclasses.dataclass
class _Held:
    """The handle of a job: its lease, and what `_call` returned."""

    executor: "Remote"
    lease: Path
    call: Any
    cancelled: bool = False

    def poll(self):
        code = self.executor._result(self.call)
        if code is not None:
            self.terminate()
        return -signal.SIGKILL if self.cancelled and code == LOST else code

    def terminate(self):
        self.lease.unlink(missing_ok=True)

    def kill(self):
        self.terminate()
        if not self.cancelled:
            self.cancelled = True
            self.executor._cancel(self.call)


@dataclasses.dataclass(kw_only=True)
class Remote(_base.Executor):
    """An executor that cannot send signals to its jobs. A job may run while its file `<log>.lease` is valid.

    The executor renews the file, and deletes it to stop the job. If the executor is killed, nothing renews the file, so
    the jobs end, too. A subclass implements how a function is called on another machine: `_call`, `_result`, `_cancel`.
    """

    def __post_init__(self):
        super().__post_init__()
        self._renewed = time.monotonic()

    def _start(self, job, slot):
        lease, token = job.log.with_name(f"{job.log.name}.lease").absolute(), uuid.uuid4().hex
        files.write(lease, token.encode())
        args = (job.command, str(job.log.absolute()), str(lease), token, os.getcwd())
        try:
            return _Held(self, lease, self._call(guarded, args, job.log.parent))
        except ConfigError:  # nothing was submitted
            lease.unlink(missing_ok=True)
            raise

    def _collect(self):
        if time.monotonic() - self._renewed > RENEW:
            self._renewed = time.monotonic()
            for _, held in self._running.values():
                with contextlib.suppress(OSError):  # it is deleted, or the next renewal tries again
                    os.utime(held.lease)
        super()._collect()

    def _call(self, function: Callable, args: tuple, folder: Path):
        """Submits `function(*args)` to another machine and returns a handle; `folder` is for files of the subclass."""
        raise NotImplementedError

    def _result(self, call) -> int | None:
        """The return value of the function; LOST if it ended without one, None while it runs."""
        raise NotImplementedError

    def _cancel(self, call) -> None:
        """Ends the call at once."""
        raise NotImplementedError


def guarded(
    command: list[str],
    log: str,
    lease: str,
    token: str,
    folder: str,
    asked: Callable[[], int | None] = lambda: None,
    poll: float = 0.5,
) -> int:
    """Runs a command while the lease contains `token` and is renewed; then sends SIGTERM.

    `asked()` is the signal by which the cluster asked this job to end, if it did. The command is sent the same one: it
    may have had it from the cluster already, and takes another one for an order to end at once.

    Returns the exit code of the command; -n: killed by signal n; LOST: the cluster asked, and it did not save.
    """
    if _read(lease, token, 0.0) is None:  # a cluster started this job again, but it has a successor already
        return -signal.SIGTERM
    child = _base.spawn(command, Path(log), cwd=folder)
    told, last, seen = False, 0.0, time.monotonic()
    try:
        while (code := child.poll()) is None:
            if (renewed := _read(lease, token, last)) != last:
                last, seen = renewed, time.monotonic()  # our own clock: clocks of two machines may differ
            old = last is None or time.monotonic() - seen > LEASE
            if not told and (number := asked() or (old and signal.SIGTERM)):
                told = True
                child.send_signal(number)
            time.sleep(poll)
        return LOST if asked() and (code < 0 or code > 128) else code
    finally:
        child.kill()


def _read(lease: str, token: str, last: float) -> float | None:
    """The time when the lease was renewed; None: it is deleted or has another token; `last`: it cannot be read now."""
    try:
        file = Path(lease)
        return file.stat().st_mtime if file.read_bytes() == token.encode() else None
    except FileNotFoundError:
        return None
    except OSError:  # a file system that fails for longer than LEASE ends the job, too
        return last
