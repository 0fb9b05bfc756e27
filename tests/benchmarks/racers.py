"""Contenders that do nothing but write down that they were called."""

import os
import time
from pathlib import Path

from benchmarks.ready import Built


def _racer(name: str, device: str, log: str) -> Built:
    def call():
        with Path(log).open("a") as file:
            file.write(name)
        time.sleep(0.002)

    return Built(call, device)


def a(log):
    """On the CPU."""
    return _racer("a", "cpu", log)


def b(log):
    """On the CPU, too."""
    return _racer("b", "cpu", log)


def c(log):
    """And a third."""
    return _racer("c", "cpu", log)


def elsewhere(log):
    """Says that it runs on an accelerator."""
    return _racer("d", "TPU v9", log)


def broken(log):
    """Cannot be built."""
    raise ValueError("no such cell")


def dead(log):
    """Takes its process with it."""
    os._exit(3)


def late(log):
    """Would take too long."""
    return Built(None, "cpu", left_out="a year a call")
