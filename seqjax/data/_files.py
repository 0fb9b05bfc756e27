"""Reads files; an error names the absolute path of the file and the place in it."""

import codecs
import glob
import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from seqjax.machine import memory
from seqjax.types import DataError

PIECE = 2**18  # bytes that are unpacked or decoded at a time
RATIO, SMALL = 100, 2**28  # a .gz may unpack to RATIO times its size, and always to SMALL bytes


def absolute(path: str | Path) -> Path:
    """The path as errors show it: from the root, with `~` expanded and links unresolved."""
    return Path(os.path.expanduser(path)).absolute()


def read_bytes(path: str | Path) -> bytes:
    """Reads a whole file; a `.gz` file is unpacked piece by piece.

    Raises:
      DataError: the file is missing, a folder, not readable, a damaged .gz, empty, or holds more than half the memory;
        a .gz unpacks to more than a hundred times its size (and more than 256 MiB).
    """
    file = absolute(path)
    if not os.path.isfile(file):  # also False for an invalid name
        is_what = "a folder" if os.path.isdir(file) else "a device or a pipe"
        wrong = f"is {is_what}, wanted a file" if os.path.exists(file) else "does not exist"
        raise DataError(f"{file} {wrong}: correct the path or put the file there.")
    try:
        size, most = file.stat().st_size, memory() // 2
        if size > most:
            raise DataError(f"{file} has {size:,} bytes, wanted at most half the memory, {most:,}: use a part of it.")
        data = _unpacked(file, size, most) if file.suffix.lower() == ".gz" else file.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{file} is not a whole gzip file ({error}): copy it again, or drop .gz from its name."
        ) from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}.") from error
    if not data:
        raise DataError(f"{file} is empty, 0 bytes: wanted at least one record.")
    return data


def _unpacked(file: Path, size: int, most: int) -> bytes:
    most, parts, total = min(most, max(RATIO * size, SMALL)), [], 0
    with gzip.open(file) as packed:
        while part := packed.read(PIECE):
            parts.append(part)
            total += len(part)
            if total > most:
                raise DataError(
                    f"{file} has {size:,} bytes and unpacks to more than {most:,}, the limit for this file: if its "
                    "content is right, unpack it with gunzip, or use a part of it."
                )
    return b"".join(parts)


def read_utf8(path: str | Path) -> bytes:
    """Reads a whole UTF-8 file; line ends stay unchanged, a byte order mark is dropped.

    Raises:
      DataError: as `read_bytes`, and invalid UTF-8, with byte offset and line.
    """
    data = read_bytes(path)
    try:
        for _ in pieces(data):
            pass
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{absolute(path)}, line {line}, byte offset {error.start}: byte 0x{data[error.start]:02x} is not UTF-8 "
            f"({error.reason}): convert the file, for example with iconv -t UTF-8."
        ) from error
    return data.removeprefix(codecs.BOM_UTF8)


def pieces(data: bytes) -> Iterator[str]:
    """Yields decoded UTF-8 piece by piece: in one str, a single emoji makes every character take four bytes.

    A piece ends before white space if it has any, so that no word is cut.

    Raises:
      UnicodeDecodeError: with the place in all of `data`.
    """
    begin = 0
    while begin < len(data):
        end = min(begin + PIECE, len(data))
        # No piece ends inside a character: the end moves back by at most three bytes.
        end = next((e for e in range(end, end - 4, -1) if e == len(data) or data[e] & 0xC0 != 0x80), end)
        if end < len(data):
            space = max(data.rfind(space, begin + 1, end) for space in (b" ", b"\n"))
            while space > begin and data[space - 1] in b" \n\r\t":
                space -= 1
            end = space if space > begin else end
        try:
            piece = str(memoryview(data)[begin:end], "utf-8")
        except UnicodeDecodeError as error:
            at = begin + error.start
            raise UnicodeDecodeError(error.encoding, data, at, begin + error.end, error.reason) from None
        yield piece
        begin = end


def read_text(path: str | Path) -> str:
    """Reads a file as `read_utf8` does, and decodes it to one str."""
    return read_utf8(path).decode()


def matches(pattern: str) -> list[Path]:
    """The files that a path or a glob (`data/*.jsonl`, `data/**/*.csv`) stands for, sorted.

    Raises:
      DataError: no file matches.
    """
    path = absolute(pattern)
    if os.path.exists(path):  # a path that exists is no pattern, even with a bracket in its name
        return [path]
    folder = next(above for above in path.parents if os.path.isdir(above))
    try:
        names = glob.glob(str(path.relative_to(folder)), root_dir=folder, recursive=True)
    except ValueError:  # the pattern has a NUL in it
        names = []
    found = sorted(file for file in map(folder.joinpath, names) if file.is_file())
    if not found:
        raise DataError(f"no file matches {path}: correct the path or put the file there.")
    return found


def splits(**patterns: str | None) -> dict[str, list[Path]]:
    """The files of each split that has a pattern (see `matches`).

    Raises:
      DataError: no file matches, or one file is in two splits.
    """
    files = {split: matches(pattern) for split, pattern in patterns.items() if pattern is not None}
    owner = {}
    for split, found in files.items():
        for file in found:
            other = owner.setdefault(file.resolve(), split)
            if other != split:
                raise DataError(f"{file} is in both {other} and {split}: narrow the pattern of one of them.")
    return files


def dataset(folder: str | None, name: str) -> Path:
    """The folder of one dataset: `<folder>/<name>`, where the folder is `data.dir` or the variable SEQJAX_DATA.

    Raises:
      DataError: neither is set, or the folder does not exist.
    """
    root = folder or os.environ.get("SEQJAX_DATA")
    if not root:
        raise DataError(
            f"neither data.dir nor the environment variable SEQJAX_DATA is set: set one to the folder that "
            f"holds {name}/, as in --config.data.dir=/path/to/data or export SEQJAX_DATA=/path/to/data."
        )
    path = absolute(root) / name
    if not os.path.isdir(path):
        raise DataError(f"{path} does not exist: data.dir or SEQJAX_DATA must be the folder that holds {name}/.")
    return path
