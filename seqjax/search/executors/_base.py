"""The base class of executors: they take commands, run `slots` of them at a time, and return exit codes."""

import collections
import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

from seqjax.training import files
from seqjax.types import Checked, NonNegative, Processes, Range

POLL = 0.1  # seconds between two polls of the running jobs


@dataclasses.dataclass(eq=False)
class Job:
    """A command for an executor, and the file that its output is appended to."""

    command: list[str]
    log: Path


@dataclasses.dataclass(kw_only=True)
class Executor(Checked):
    """Runs commands, each in its own process, and returns their exit codes.

        with Executor(slots=2) as executor:
            jobs = [executor.submit(command, log) for command, log in work]
            while ended := executor.wait():
                for job, code in ended: ...

    `slots` jobs run at a time, the others wait in a queue. Each job sees its own `gpus` GPUs (0: all that exist). A
    stopped job gets SIGTERM, and is killed if it has not ended after `grace` seconds. Use an executor from one thread
    only. Its jobs end when it is closed, or when this process is killed.

    A subclass implements one place to run in: `_start`.
    """

    slots: Annotated[int, Range(least=1, most=10_000)] = 1
    gpus: Processes = 0
    grace: NonNegative = 60.0

    def __post_init__(self):
        super().__post_init__()
        self._queue: collections.deque[Job] = collections.deque()
        self._running: dict[Job, tuple[int, Any]] = {}  # job -> its slot, and the handle of the subclass
        self._stopped: dict[Job, float] = {}  # job -> when it is killed
        self._ended: list[tuple[Job, int]] = []

    def submit(self, command: list[str], log: Path) -> Job:
        """Starts a command or queues it, and returns at once. The folder of its log must exist."""
        job = Job(command, Path(log))
        self._queue.append(job)
        self._fill()
        return job

    def wait(self, timeout: float | None = None) -> list[tuple[Job, int]]:
        """Waits until a job has ended; returns all ended jobs with their exit codes (-n: killed by signal n).

        Each job is returned once. Returns [] after `timeout` seconds, or if no job is left.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            self._collect()
            late = end is not None and time.monotonic() >= end
            if self._ended or late or not (self._running or self._queue):
                ended, self._ended = self._ended, []
                return ended
            time.sleep(POLL)

    def stop(self, job: Job) -> None:
        """Asks a job to end; `wait` returns it when it has ended. A queued job never starts; its code is -15."""
        if job in self._queue:
            self._queue.remove(job)
            self._ended.append((job, -signal.SIGTERM))
        elif job in self._running and job not in self._stopped:
            self._stopped[job] = time.monotonic() + self.grace
            self._running[job][1].terminate()

    def close(self) -> None:
        """Stops all jobs, and waits until they have ended."""
        self._queue.clear()
        try:
            for job in self._running:
                self.stop(job)
            while self._running:
                self._collect()
                time.sleep(POLL)
        finally:  # a second Ctrl-C does not wait
            for _, handle in self._running.values():
                handle.kill()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def _fill(self) -> None:
        while self._queue and len(self._running) < self.slots:
            job = self._queue.popleft()
            slot = min(set(range(self.slots)) - {slot for slot, _ in self._running.values()})
            self._running[job] = slot, self._start(job, slot)

    def _collect(self) -> None:
        for job, (_, handle) in list(self._running.items()):
            code = handle.poll()
            if code is not None:
                del self._running[job]
                self._stopped.pop(job, None)
                self._ended.append((job, code))
            elif time.monotonic() > self._stopped.get(job, float("inf")):
                handle.kill()
        self._fill()

    def _start(self, job: Job, slot: int):
        """Starts a job in slot 0 ... slots - 1, and returns a handle with the methods of `Process`."""
        raise NotImplementedError


class Process(subprocess.Popen):
    """A process of this machine: `poll` returns its exit code, or None while it runs; `terminate` sends SIGTERM."""

    def kill(self) -> None:
        """Kills it and all its child processes at once; it may have ended already."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.wait()


_MORTAL = """
import ctypes, os, signal, sys
parent, *command = sys.argv[1:]
if sys.platform == "linux":
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent): os._exit(1)
try:
    os.execvp(command[0], command)
except OSError as error:
    sys.exit(f"cannot run {command[0]!r}: {error.strerror}")
"""


def spawn(command: list[str], log: Path, **options) -> Process:
    """Starts a command that appends to `log`, in an own session, and that is killed when this process ends (Linux).

    A small program execs the command: code between fork and exec is unsafe with JAX's threads. Raises WorkdirError if
    the log cannot be written.
    """
    command = [sys.executable, "-I", "-S", "-c", _MORTAL, str(os.getpid()), *command]
    try:
        out = open(log, "ab", opener=files.own)  # noqa: SIM115 closed below
    except OSError as error:
        raise files.unwritten(log, error) from error
    with out:
        own = dict(stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
        return Process(command, **own, **options)
