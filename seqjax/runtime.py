"""Sets up the process of a command: compile cache, allocator, quiet logs.

An import of the library changes none of these.
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
    """Sets up the process. Call it before the first computation of JAX."""
    logs()
    for noisy, level in (("jax", "ERROR"), ("etils", "ERROR"), ("orbax", "CRITICAL"), ("absl", "CRITICAL")):
        logging.getLogger(noisy).setLevel(level)  # orbax and grain also raise the errors that they log
    quiet_loops()
    keep_pages()
    compile_cache()


def logs() -> None:
    """Sends the library's log to stderr, as plain lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Clean("%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("seqjax").setLevel(logging.INFO)


class _Clean(logging.Formatter):
    """Makes log lines safe to print, because they contain names of columns and files."""

    def format(self, record):
        return screen.clean(screen.masked(super().format(record)))


def quiet_loops() -> None:
    """Hides messages about an event loop that orbax has closed, because orbax raises the failure itself.

    It also hides Python's warning about a write that had not begun: a coroutine that was never awaited.
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
    """Makes glibc keep freed memory (Linux, CPU): XLA allocates and frees its temporaries in every step, and the page
    faults cost up to a third of a step. `SEQJAX_MALLOC=default` does not change the allocator."""
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
    """Stops JAX from reserving the memory of a GPU, in a process whose runs are other processes and need it."""
    import jax

    key = "XLA_PYTHON_CLIENT_PREALLOCATE"
    if key not in os.environ:
        os.environ[key] = "false"
        jax.devices()
        del os.environ[key]


def cache() -> Path:
    """The folder of what seqjax remembers between its processes: `SEQJAX_CACHE` (default ~/.cache/seqjax)."""
    return Path(os.environ.get("SEQJAX_CACHE") or Path.home() / ".cache" / "seqjax")


def compile_cache() -> None:
    """Keeps compiled programs in the cache, so that later starts are quick."""
    import jax

    folder = cache() / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = (
            f"cannot write to {folder} ({error.strerror}): starts will be slow; set SEQJAX_CACHE to a writable folder"
        )
        logging.getLogger(__name__).warning(reason)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
