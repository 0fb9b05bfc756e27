"""Whether a checkpoint is damaged: its files are held against a list of them, made when they were written.

What orbax raises does not say: of a file that was cut off it may say anything, and an error of any other kind (a disk
that fails for a moment, no memory, no module) says nothing about the files.
"""

import contextlib
import hashlib
import json
import os
from pathlib import Path

from seqjax.types import CheckpointError, SeqjaxError, WorkdirError

FILES = "seqjax_files.json"


class Damaged(CheckpointError):
    """A checkpoint is not what was written: its content proves it. Exit code 4."""


def seal(tree) -> str:
    """sha256 of what JSON holds: it changes with it."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def list_files(path: Path) -> None:
    """Writes down size and sha256 of every file of a whole checkpoint."""
    files = {f.relative_to(path).as_posix(): _file(f) for f in sorted(path.rglob("*")) if f.is_file()}
    with open(path / FILES, "w") as f:
        f.write(json.dumps({"files": files, "seal": seal(files)}))
        f.flush()
        os.fsync(f.fileno())  # a machine that fails may lose the others, and then this one must be there to say so


@contextlib.contextmanager
def reading(path: Path):
    """Around what reads a checkpoint.

    Raises:
      Damaged: its files have changed.
      WorkdirError: they have not, or nobody can tell: the error is of another kind.
    """
    try:
        yield
    except SeqjaxError:
        raise
    except Exception as error:
        cause, fix = error, "its files stay as they are: mend that and run the same command again"
        try:
            if changed := _changed(path):
                raise Damaged(f"checkpoint {path} is damaged: {changed} is not what was written") from error
        except OSError as unread:
            cause = unread
        except LookupError:
            fix += "; it has no list of its files, so it may be damaged: if nothing else is wrong, move it away"
        raise WorkdirError(f"checkpoint {path} cannot be read: {words(cause)}; {fix}.") from error


def _changed(path: Path) -> str | None:
    """The first file that is not what was written.

    Raises:
      OSError: one cannot be read.
      LookupError: there is no list of them: it is of before there were any, or its process was killed.
    """
    try:
        listed = json.loads((path / FILES).read_bytes())
        files, known = listed["files"], listed["seal"] == seal(listed["files"])
    except (FileNotFoundError, LookupError, TypeError, ValueError) as error:
        raise LookupError(FILES) from error
    if not known:
        raise LookupError(FILES)
    return next((name for name, written in files.items() if _file(path / name) != written), None)


def _file(file: Path) -> list | None:
    """Size and sha256; None: there is no such file."""
    try:
        with open(file, "rb") as f:
            return [os.fstat(f.fileno()).st_size, hashlib.file_digest(f, "sha256").hexdigest()]
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def words(error: Exception) -> str:
    """The first line of what an error says, behind its kind, if it is none of ours."""
    said = str(error).strip().split("\n")[0]
    kind = [] if isinstance(error, SeqjaxError) else [type(error).__name__]
    return ": ".join([*kind, *([said] if said else [])])
