"""Finds the folders of checkpoints by their names, renames and deletes them."""

import itertools
import os
import re
import shutil
from pathlib import Path

from seqjax.training.stored import ABOUT
from seqjax.types import WorkdirError

STEP = "(0|[1-9][0-9]{0,17})"  # a step in a name: 7, but not 007 or digits of another script


def found(root: Path, ending: str = "") -> list[tuple[int, Path]]:
    """The folders in `root` whose name is a step and `ending` (a regular expression), newest first.

    Raises:
      WorkdirError: `root` cannot be read, or is a link to a missing folder.
    """
    try:
        with os.scandir(root) as entries:
            there = [Path(entry) for entry in entries if entry.is_dir()]
    except OSError as error:
        if isinstance(error, (FileNotFoundError, NotADirectoryError)) and not root.is_symlink():
            return []
        raise WorkdirError(f"cannot read {root}: {error.strerror}; put it back, or mount its disk.") from error
    named = [(re.fullmatch(f"{STEP}{ending}", folder.name), folder) for folder in there]
    return sorted(((int(name[1]), folder) for name, folder in named if name), reverse=True)


def delete(folder: Path) -> None:
    """Deletes a folder, or only the link to it. If the process is killed, the rest is recognised as incomplete."""
    if folder.is_symlink():
        folder.unlink()
    else:
        (folder / ABOUT).unlink(missing_ok=True)
        shutil.rmtree(folder)


def move(folder: Path, name: str) -> Path:
    """Renames a folder and returns its new path."""
    target = folder.with_name(name)
    try:
        return folder.rename(target)
    except OSError as error:
        raise WorkdirError(f"cannot rename {folder} to {target.name}: {error.strerror}.") from error


def keep(folder: Path, name: str) -> Path:
    """Renames a folder; if the name exists already, a number is appended."""
    names = itertools.chain([name], (f"{name}{n}" for n in itertools.count(2)))
    return move(folder, next(n for n in names if not folder.with_name(n).exists()))
