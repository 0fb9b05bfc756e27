"""Finds out whether a checkpoint is damaged: compares its files with a list that was made when they were written.

The errors of orbax do not tell: a truncated file can raise any error, and other errors (a disk that fails for a moment,
no memory, a missing module) have nothing to do with the files.
"""

import contextlib
import hashlib
import json
import os
from pathlib import Path

from seqjax import config
from seqjax.training import files
from seqjax.types import CheckpointError, SeqjaxError, WorkdirError

FILES = "seqjax_files.json"


class Damaged(CheckpointError):
    """The content of a checkpoint proves that it changed after it was written. Exit code 4."""


def list_files(path: Path) -> None:
    """Writes a list of the size and sha256 of every file of a complete checkpoint."""
    listed = {f.relative_to(path).as_posix(): _file(f) for f in sorted(path.rglob("*")) if f.is_file()}
    # It is synced: if the machine fails, other files may be lost, and this list must survive to show it.
    files.write(path / FILES, json.dumps({"files": listed, "seal": config.digest(listed)}).encode())


@contextlib.contextmanager
def reading(path: Path):
    """A context for code that reads a checkpoint; translates its errors.

    Raises:
      Damaged: the files have changed.
      WorkdirError: the files have not changed, or that cannot be checked: the error has another cause.
    """
    try:
        yield
    except SeqjaxError:
        raise
    except Exception as error:
        cause, fix = error, "its files are left unchanged: repair that and run the same command again"
        try:
            if changed := _changed(path):
                raise Damaged(f"checkpoint {path} is damaged: {changed} changed after it was written") from error
        except OSError as unread:
            cause = unread
        except LookupError:
            fix += "; it has no list of its files, so it may be damaged: if nothing else is wrong, move it away"
        raise WorkdirError(f"checkpoint {path} cannot be read: {words(cause)}; {fix}.") from error


def _changed(path: Path) -> str | None:
    """The first file that changed after it was written.

    Raises:
      OSError: a file cannot be read.
      LookupError: the checkpoint has no list of its files: it is older than such lists, or its process was killed.
    """
    try:
        listed = json.loads((path / FILES).read_bytes())
        if listed["seal"] != config.digest(listed["files"]):
            raise LookupError(FILES)
    except (FileNotFoundError, LookupError, TypeError, ValueError) as error:
        raise LookupError(FILES) from error
    return next((name for name, written in listed["files"].items() if _file(path / name) != written), None)


def _file(file: Path) -> list | None:
    """Size and sha256 of a file; None: the file does not exist."""
    try:
        with open(file, "rb") as f:
            return [os.fstat(f.fileno()).st_size, hashlib.file_digest(f, "sha256").hexdigest()]
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def words(error: Exception) -> str:
    """The first line of an error message; if the error is not a SeqjaxError, its class comes first."""
    said = str(error).strip().split("\n")[0]
    kind = [] if isinstance(error, SeqjaxError) else [type(error).__name__]
    return ": ".join([*kind, *([said] if said else [])])
