"""Reads and writes the small files of a folder: completely or not at all, never through a link, and strictly.

An object in a JSON file begins with its `format` and ends with its `seal`, a digest of the rest. A row of a .jsonl file
has a seal of the row and of the seal before it. So seqjax notices a changed value, and a changed, lost or doubled row.
Data without a seal is older than seals, or was written by hand: it is read without these checks.
"""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from seqjax.types import WorkdirError

SEAL, FORMAT = "seal", "format"
DEEPEST = 100  # levels of objects and lists
FIX = "restore it from a copy, or move it away"


def own(path, flags: int) -> int:
    """The `opener` of files that are written in place: never follows a link, and never waits, as for a pipe."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def write(path: Path, content: bytes) -> None:
    """Writes a file completely or not at all. Raises WorkdirError if it cannot be written, or is a link."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.is_symlink():
            raise OSError(errno.ELOOP, "")
        temporary.unlink(missing_ok=True)
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise unwritten(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)  # incomplete, if it still exists


def write_json(path: Path, tree) -> None:
    """Writes an object with its seal, or a list of rows, each with its own seal."""
    if isinstance(tree, dict):
        tree = {FORMAT: 1, **json.loads(json.dumps(tree))}  # as it is read again
        tree[SEAL] = _seal(tree)
    else:
        tree = _sealed(tree, first=str(len(tree)))
    write(path, json.dumps(tree, indent=1).encode())


def read_json(path: Path, kind: type = dict):
    """The object in a JSON file, or its rows if `kind` is list; None if the file does not exist.

    Raises:
      WorkdirError: the file cannot be read, does not hold this kind of JSON, or was changed after it was written.
    """
    content = _content(path)
    if content is None:
        return None
    try:
        tree = _parse(content)
    except ValueError as error:
        raise WorkdirError(f"{path} is not JSON ({error}): {FIX}.") from error
    if not isinstance(tree, kind):
        wanted = "an object" if kind is dict else "a list"
        raise WorkdirError(f"{path} holds a {type(tree).__name__}, wanted {wanted}: {FIX}.")
    if kind is list:
        rows = Rows(first=str(len(tree)))
        for number, row in enumerate(tree, 1):
            rows.take(f"entry {number}", row)
        if rows.damage:
            raise WorkdirError(f"{path}, {rows.damage[0]}: {FIX}.")
        return rows.rows
    if (SEAL in tree or FORMAT in tree) and tree.pop(SEAL, None) != _seal(tree):
        raise WorkdirError(f"{path} was changed after it was written: {FIX}.")
    tree.pop(FORMAT, None)
    return tree


@dataclasses.dataclass
class Rows:
    """The content of a .jsonl file: its good rows, and a sentence for each damaged one."""

    rows: list[dict] = dataclasses.field(default_factory=list)
    seals: list[str] = dataclasses.field(default_factory=list)
    damage: list[str] = dataclasses.field(default_factory=list)
    torn: bool = False  # the last line is incomplete: its writer was killed, or is writing it
    first: str = ""  # the seal of the first row includes it, as other seals include the seal before
    check: Callable[[dict], str | None] = lambda row: None  # says what is wrong with a row

    def take(self, where: str, row) -> None:
        """Adds one row, or records that it is damaged."""
        if not isinstance(row, dict):
            self.damage.append(f"{where} holds {str(row)[:60]!r}, wanted an object")
            return
        before, seal = self.seals[-1] if self.seals else self.first, row.pop(SEAL, None)
        older = seal is None and not self.seals
        if not older:
            self.seals.append(str(seal))  # the next row is checked with it, even if this row is damaged
        if not older and seal != _seal(row, before):
            self.damage.append(f"{where} was changed after it was written, or one before it is lost")
        elif wrong := self.check(row):
            self.damage.append(f"{where}: {wrong}")
        else:
            self.rows.append(row)


def read_rows(path: Path, check: Callable[[dict], str | None]) -> Rows:
    """The rows of a .jsonl file; none if it does not exist. `check` says what is wrong with a row, if anything.

    Raises:
      WorkdirError: the file cannot be read.
    """
    *lines, tail = (_content(path) or b"").split(b"\n")
    found = Rows(torn=bool(tail), check=check)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.take(f"line {number}", _parse(line))
        except ValueError as error:
            found.damage.append(f"line {number} is not JSON ({error})")
            if seal := re.search(rb'"seal": "(\w+)"\}$', line):
                found.seals.append(seal[1].decode())
    return found


def write_rows(path: Path, rows: list[dict]) -> None:
    """Replaces a .jsonl file, completely or not at all."""
    write(path, "".join(f"{json.dumps(row)}\n" for row in _sealed(rows)).encode())


class Appender:
    """Appends rows to a .jsonl file that holds `found`, and flushes each. First it drops what is not in `kept`.

    Raises:
      WorkdirError: it cannot be written, or is a link.
    """

    def __init__(self, path: Path, found: Rows, kept: list[dict]):
        if found.torn or found.damage or len(kept) < len(found.rows):
            write_rows(path, kept)
            found = read_rows(path, found.check)
        self.path, self._seal = path, found.seals[-1] if found.seals else ""
        try:
            self._file = open(path, "ab", opener=own)  # noqa: SIM115 open for the life of the run
        except OSError as error:
            raise unwritten(path, error) from error

    def write(self, row: dict) -> None:
        """Appends one row."""
        row = {**row, SEAL: _seal(row, self._seal)}
        try:
            self._file.write(f"{json.dumps(row)}\n".encode())
            self._file.flush()
        except OSError as error:
            raise unwritten(self.path, error) from error
        self._seal = row[SEAL]

    def sync(self) -> None:
        """Waits until all rows are on disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def unwritten(path: Path, error: OSError) -> WorkdirError:
    """The error for a file that cannot be written."""
    return WorkdirError(f"cannot write {path}: {reason(error)} ({free(path.parent)}).")


def reason(error: OSError) -> str:
    """The reason that the operating system gives, in words."""
    return "it is a link, and seqjax does not write through links" if error.errno == errno.ELOOP else error.strerror


def free(folder: Path) -> str:
    """The free space on the disk of a folder, which need not exist yet."""
    place = next(p for p in (folder, *folder.parents) if p.exists())
    return f"{shutil.disk_usage(place).free:,} bytes free"


def _content(path: Path) -> bytes | None:
    try:
        with open(path, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file")
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # no file can have this name
            return None
        raise WorkdirError(f"{path} cannot be read ({error.strerror}): make it readable, or move it away.") from error


def _parse(content: bytes):
    """The value of a JSON text.

    Raises:
      ValueError: the text is not JSON, has a key twice or a number of more than 64 bits, or is nested too deeply.
    """
    try:
        tree = json.loads(content.decode(), object_pairs_hook=_object, parse_int=_int)
        deep = _depth(tree) > DEEPEST
    except RecursionError:
        deep = True
    if deep:
        raise ValueError(f"it is nested more than {DEEPEST} deep")
    return tree


def _depth(tree) -> int:
    inside = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else None
    return 0 if inside is None else 1 + max(map(_depth, inside), default=0)


def _object(pairs: list[tuple]) -> dict:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        raise ValueError("an object has the same key twice")
    return tree


def _int(digits: str) -> int:
    number = int(digits[:32])
    if abs(number) >= 2**63:
        raise ValueError(f"{digits[:32]} is too large a number")
    return number


def _seal(tree: dict, before: str = "") -> str:
    return hashlib.sha256((before + json.dumps(tree, sort_keys=True)).encode()).hexdigest()[:16]


def _sealed(rows: list[dict], first: str = "") -> list[dict]:
    """Rows, each with its seal."""
    out, seal = [], first
    for row in rows:
        seal = _seal(row, seal)
        out.append({**row, SEAL: seal})
    return out
