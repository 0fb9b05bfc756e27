"""Reading files so that whatever is wrong with one is said with its absolute path and the place in it."""

import glob
import gzip
import os
import zlib
from pathlib import Path

from seqjax.types import DataError


def absolute(path: str | Path) -> Path:
    """The path as errors show it: from the root, `~` expanded, links left alone."""
    return Path(path).expanduser().absolute()


def read_bytes(path: str | Path) -> bytes:
    """The whole file; one that ends in `.gz` is decompressed.

    Raises:
      DataError: no such file, a folder, not readable, a damaged .gz, nothing in it.
    """
    file = absolute(path)
    if not file.is_file():
        what = (
            "is a folder, wanted a file" if file.is_dir() else "does not exist: correct the path or put the file there"
        )
        raise DataError(f"{file} {what}.")
    try:
        data = file.read_bytes()
        if file.suffix == ".gz":
            data = gzip.decompress(data)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{file} is not a whole gzip file ({error}): copy it again, or drop .gz from its name."
        ) from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}.") from error
    if not data:
        raise DataError(f"{file} is empty, 0 bytes: wanted at least one record.")
    return data


def read_text(path: str | Path) -> str:
    """The whole file as UTF-8, line ends as they are, without a byte order mark.

    Raises:
      DataError: as `read_bytes`, and invalid UTF-8, with byte offset and line.
    """
    data = read_bytes(path)
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{absolute(path)}, line {line}, byte offset {error.start}: byte 0x{data[error.start]:02x} is not UTF-8 "
            f"({error.reason}): convert the file, for example with iconv -t UTF-8."
        ) from error


def matches(pattern: str) -> list[Path]:
    """The files that a path or a glob (`data/*.jsonl`, `data/**/*.csv`) stands for, sorted.

    Raises:
      DataError: there is none.
    """
    path = absolute(pattern)
    if path.exists():  # a name with a bracket in it is a file before it is a pattern
        return [path]
    found = sorted(f for f in map(Path, glob.glob(str(path), recursive=True)) if f.is_file())
    if not found:
        raise DataError(f"no file matches {path}: correct the path or put the file there.")
    return found


def dataset(folder: str | None, name: str) -> Path:
    """The folder of one dataset: `<folder>/<name>`, where the folder is `data.dir` or the variable SEQJAX_DATA.

    Raises:
      DataError: neither is set, or there is no such folder.
    """
    root = folder or os.environ.get("SEQJAX_DATA")
    if not root:
        raise DataError(
            f"data.dir is not set and neither is the environment variable SEQJAX_DATA: give either the folder "
            f"that holds {name}/, as in --config.data.dir=/path/to/data or export SEQJAX_DATA=/path/to/data."
        )
    path = absolute(root) / name
    if not path.is_dir():
        raise DataError(f"{path} does not exist: data.dir or SEQJAX_DATA must be the folder that holds {name}/.")
    return path
