"""Runs a command until it is done. Starts it again after a preemption or a crash, but not after a mistake."""

import signal
import subprocess
import sys
import threading
import time

from seqjax.training.signals import asking
from seqjax.types import ConfigError, Preempted

LONGEST = 300.0  # seconds between two starts
STEADY = 600.0  # seconds; after a longer start, the next wait is short again


def is_worth_restarting(code: int) -> bool:
    """Whether an exit code means a preemption (75) or a crash: killed by a signal, or an uncaught exception (1).

    Shells report signal n as 128 + n. All other codes mean mistakes that a restart would repeat.
    """
    return code in (1, Preempted.exit_code) or code < 0 or code > 128


def supervise(command: list[str], restarts: int, wait: float) -> int:
    """Runs `command`, at most 1 + `restarts` times, and returns its last exit code.

    Before restart n it waits `wait` 2^(n - 1) seconds, at most five minutes. Signals that ask a run to stop
    (`seqjax.training.signals`) are passed on to the command, and then it is not started again.

    Raises:
      ConfigError: the program does not exist.
    """
    wait = min(wait, LONGEST)
    told, child, delay = threading.Event(), None, wait

    def hand_on(number, _):
        told.set()
        if child is not None and child.poll() is None:
            child.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in asking()}
    try:
        for left in range(restarts, -1, -1):
            start = time.monotonic()
            try:
                # A separate process group: Ctrl-C then reaches the command only once, through `hand_on`.
                child = subprocess.Popen(command, start_new_session=True)
            except OSError as error:
                raise ConfigError(f"cannot run {command[0]!r} ({error}): is it on PATH?") from error
            if told.is_set():  # a signal came while the command was being started
                child.terminate()
            code = child.wait()
            if told.is_set() or not is_worth_restarting(code):
                break
            if time.monotonic() - start > STEADY:
                delay = wait
            again = f"starting it again in {delay:g} s, restarts left: {left}" if left else "no restart left"
            print(f"seqjax: {command[0]} ended with code {code}: {again}", file=sys.stderr, flush=True)
            if not left or told.wait(delay):
                break
            delay = min(delay * 2, LONGEST)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 - code if code < 0 else code
