"""The machine that this process runs on."""

import contextlib
import os
from pathlib import Path

# Of XLA_FLAGS: a GPU adds up in an order that never changes. It does not by default, where many add to one place.
ONE_ORDER = "--xla_gpu_exclude_nondeterministic_ops=true"


def memory() -> int:
    """Bytes of memory that this machine has, or that its container may use."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            limits.append(int(Path(file).read_text()))
    return min(limits)
