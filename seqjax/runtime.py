"""How the command line sets up its process: compile cache, allocator, quiet logs.

Importing the library does none of it.
"""

import ctypes
import logging
import os
import platform
import sys
import tempfile
import warnings
from pathlib import Path

from seqjax import screen
from seqjax.types import ConfigError


def setup() -> None:
    """Before JAX starts its first computation."""
    logs()
    for noisy, level in (("jax", "ERROR"), ("etils", "ERROR"), ("orbax", "CRITICAL"), ("absl", "CRITICAL")):
        logging.getLogger(noisy).setLevel(level)  # what orbax and grain log as errors, they raise too
    quiet_loops()
    keep_pages()
    compile_cache()


def logs() -> None:
    """Has the library's log written to stderr, as plain lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Clean("%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("seqjax").setLevel(logging.INFO)


class _Clean(logging.Formatter):
    """Lines that leave the screen as it is: names of columns and files stand in them."""

    def format(self, record):
        return screen.clean(screen.masked(super().format(record)))


def quiet_loops() -> None:
    """Says nothing of what comes too late for an event loop that orbax has closed: the failure itself it raises.

    Python also warns of a write that had not begun, as of a coroutine that nobody waited for.
    """
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    show = sys.unraisablehook
    if getattr(show, "is_quiet", False):
        return

    def hook(found):
        if not (isinstance(found.exc_value, RuntimeError) and str(found.exc_value) == "Event loop is closed"):
            show(found)

    hook.is_quiet = True
    sys.unraisablehook = hook


def keep_pages() -> None:
    """Tells glibc to keep memory that it frees (Linux, CPU): XLA takes and gives back its temporaries every step, and
    the page faults cost up to a third of a step. `SEQJAX_MALLOC=default` leaves the allocator alone."""
    choice = os.environ.get("SEQJAX_MALLOC", "keep")
    if choice not in ("keep", "default"):
        raise ConfigError(f"SEQJAX_MALLOC={choice!r}: choose keep or default.")
    if choice == "default" or platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL("libc.so.6")
    arena_max, trim_threshold, mmap_threshold, top_pad = -8, -1, -3, -2
    settings = ((arena_max, 1), (trim_threshold, 2**31 - 1), (mmap_threshold, 2**30), (top_pad, 64 * 2**20))
    if not all(libc.mallopt(key, value) for key, value in settings):
        logging.getLogger(__name__).warning("glibc refused the allocator settings; steps may be slower.")


def leave_memory() -> None:
    """For a process that only builds and measures: the memory of a GPU is for the runs that it starts."""
    import jax

    key = "XLA_PYTHON_CLIENT_PREALLOCATE"
    if key not in os.environ:
        os.environ[key] = "false"
        jax.devices()
        del os.environ[key]


def compile_cache() -> None:
    """Keeps compiled programs in `SEQJAX_CACHE` (default ~/.cache/seqjax), so that a second start is quick."""
    import jax

    folder = Path(os.environ.get("SEQJAX_CACHE") or Path.home() / ".cache" / "seqjax") / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = f"cannot write to {folder} ({error.strerror}): starts will be slow; set SEQJAX_CACHE to a folder"
        logging.getLogger(__name__).warning(reason)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
