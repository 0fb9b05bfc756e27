"""The contract of an executor: commands in, exit codes out, `slots` of them at a time."""

import collections
import dataclasses
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any

from seqjax.types import Checked, NonNegative, Processes, Range

POLL = 0.1  # seconds between two looks at what is running


@dataclasses.dataclass(eq=False)
class Job:
    """A command that was given to an executor, and the file that its output is appended to."""

    command: list[str]
    log: Path


@dataclasses.dataclass(kw_only=True)
class Executor(Checked):
    """Runs commands, each in a process of its own, and says with which code each ended.

        with Executor(slots=2) as executor:
            jobs = [executor.submit(command, log) for command, log in work]
            while ended := executor.wait():
                for job, code in ended: ...

    `slots` run at a time, the rest queues. Each sees `gpus` GPUs of its own (0: whatever is there). What is stopped
    gets SIGTERM, and is killed if it has not ended after `grace` seconds. Use it from one thread; what it started
    ends when it is closed, or when this process is killed.

    A subclass knows one place to run in: `_start`, `_poll`, `_terminate`, `_kill`.
    """

    slots: Annotated[int, Range(least=1, most=10_000)] = 1
    gpus: Processes = 0
    grace: NonNegative = 60.0

    def __post_init__(self):
        super().__post_init__()
        self._queue: collections.deque[Job] = collections.deque()
        self._running: dict[Job, tuple[int, Any]] = {}  # job -> its slot, and what the subclass knows it by
        self._stopped: dict[Job, float] = {}  # job -> when it is killed
        self._ended: list[tuple[Job, int]] = []

    def submit(self, command: list[str], log: Path) -> Job:
        """Starts a command or queues it, and returns at once. The folder of its log must exist."""
        job = Job(command, Path(log))
        self._queue.append(job)
        self._fill()
        return job

    def wait(self, timeout: float | None = None) -> list[tuple[Job, int]]:
        """Blocks until a job has ended, and returns all that have, with their exit codes; -n: killed by signal n.

        Each is returned once. [] after `timeout` seconds, or if there is nothing to wait for.
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
        """Asks a job to end; `wait` returns it when it has. One that has not begun never does: code -15."""
        if job in self._queue:
            self._queue.remove(job)
            self._ended.append((job, -signal.SIGTERM))
        elif job in self._running and job not in self._stopped:
            self._stopped[job] = time.monotonic() + self.grace
            self._terminate(self._running[job][1])

    def close(self) -> None:
        """Stops all that is left, and waits until it has ended."""
        self._queue.clear()
        try:
            for job in self._running:
                self.stop(job)
            while self._running:
                self._collect()
                time.sleep(POLL)
        finally:  # a second Ctrl-C does not wait
            for _, handle in self._running.values():
                self._kill(handle)

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
            code = self._poll(handle)
            if code is not None:
                del self._running[job]
                self._stopped.pop(job, None)
                self._ended.append((job, code))
            elif time.monotonic() > self._stopped.get(job, float("inf")):
                self._kill(handle)
        self._fill()

    def _start(self, job: Job, slot: int):
        """Starts a job in slot 0 ... slots - 1, and returns what the other three know it by."""
        raise NotImplementedError

    def _poll(self, handle) -> int | None:
        """The exit code, or None while it runs."""
        raise NotImplementedError

    def _terminate(self, handle) -> None:
        """Sends SIGTERM, or what comes next to it; may come too late."""
        raise NotImplementedError

    def _kill(self, handle) -> None:
        """Ends it now, with all it started; may come too late."""
        raise NotImplementedError


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


def mortal(command: list[str], parent: int) -> list[str]:
    """A command that is killed when `parent`, the process that starts it, is gone (Linux).

    It is a small program that becomes the command: code between fork and exec would not be safe beside JAX's threads.
    """
    return [sys.executable, "-I", "-S", "-c", _MORTAL, str(parent), *command]
