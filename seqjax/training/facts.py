"""What a result must carry with it: versions, hardware, revision."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import jax

import seqjax

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def versions() -> dict[str, str]:
    """Versions of everything that decides about a run's numbers."""
    return {
        "seqjax": seqjax.__version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def hardware() -> dict:
    """Devices and host."""
    device = jax.devices()[0]
    return {
        "platform": device.platform,
        "device_kind": device.device_kind,
        "devices": jax.device_count(),
        "host_cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.partition(":")[2] for line in info.read_text().splitlines() if line.startswith("model name")]
        if (info.exists())
        else []
    )
    return names[0].strip() if names else platform.processor() or platform.machine()


def revision() -> str | None:
    """The git revision of the library's source, with `+` if it was changed; None outside a checkout."""
    git = lambda *args: subprocess.run(
        ["git", "-C", str(Path(seqjax.__file__).parent), *args], capture_output=True, text=True, timeout=10
    )
    try:
        head = git("rev-parse", "--short=12", "HEAD")
        if head.returncode:
            return None
        return head.stdout.strip() + "+" * bool(git("status", "--porcelain", "--untracked-files=no").stdout.strip())
    except (OSError, subprocess.TimeoutExpired):
        return None
