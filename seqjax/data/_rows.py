"""Rows of .jsonl, .csv, .tsv and .parquet files, each with the place it comes from."""

import collections
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

from seqjax import lookup
from seqjax.data import _files
from seqjax.types import DataError

SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


def rows(file: Path, columns: list[str], unusual: dict[str, list[Path]]) -> Iterator[tuple[str, dict]]:
    """Yields ("<path>, line 7" or "<path>, row 6", column -> value); a csv record counts at its first line.

    Lines count from 1, as in editors; rows of parquet count from 0, as in its readers. Blank lines are skipped. The
    separator of a csv file is the one of , ; tab | that finds all columns in the header. If the file's name promises
    another separator, the file is added to `unusual` under the name of its separator.

    Raises:
      DataError: with path and line or row: no such column, a broken record, an unknown kind of file.
    """
    kind = next((s for s in SUFFIXES if file.name.lower().endswith(s)), None)
    if kind is None:
        raise DataError(f"{file} ends in {file.suffix!r}, wanted one of {', '.join(SUFFIXES)}: rename or convert it.")
    kind = kind.split(".")[1]
    if kind in ("csv", "tsv"):
        return _csv(file, columns, "," if kind == "csv" else "\t", unusual)
    return {"jsonl": _jsonl, "parquet": _parquet}[kind](file, columns)


def cells(file: Path, count: int, separator: str, *, quotes: bool = True) -> Iterator[tuple[str, list[str]]]:
    """Yields ("<path>, line 7", cells) of each record of a file of a known form; `quotes`: cells may stand in quotes.

    Raises:
      DataError: with path and line: a record does not have `count` cells, or one of them is empty.
    """
    if quotes:
        found = _records(_files.read_utf8(file), separator, file)
    else:
        lines = enumerate(_files.read_text(file).split("\n"), start=1)
        found = ((number, line.removesuffix("\r").split(separator)) for number, line in lines if line)
    for line, record in found:
        where = f"{file}, line {line}"
        if len(record) != count:
            raise DataError(f"{where}: got {len(record)} cells, wanted {count}: copy the file again.")
        if not all(map(str.strip, record)):
            raise DataError(f"{where}: a cell is empty: copy the file again.")
        yield where, record


def _check(columns, there, where: str):
    for column in columns:
        if column in there:
            continue
        outer, dot, inner = column.partition(".")
        near = lookup.nearest(column, there)
        if dot and outer in there:
            near = f" If {inner!r} is a part of {outer!r}, make it a column of its own: nested values are not read."
        raise DataError(f"{where}: no column {column!r}.{near} It has: {lookup.listed(there) or 'none'}.")


def _check_once(columns, there: list[str], where: str):
    for column in columns:
        if there.count(column) > 1:
            raise DataError(f"{where}: {there.count(column)} columns are called {column!r}: rename all but one.")


def _jsonl(file, columns):
    # Only \n ends a record: str.splitlines would also cut at U+2028, which JSON allows inside strings.
    for number, line in enumerate(io.BytesIO(_files.read_utf8(file)), start=1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            record = json.loads(line.decode(), object_pairs_hook=_object)
        except (ValueError, RecursionError) as error:  # RecursionError: nested too deep
            raise DataError(f"{where}: not JSON ({error}): wanted one object per line.") from error
        if not isinstance(record, dict):
            raise DataError(f"{where}: got a {type(record).__name__}, wanted an object such as {{'text': '...'}}.")
        _check(columns, record, where)
        yield where, record


def _object(pairs: list[tuple]) -> dict:
    made = dict(pairs)
    if len(made) < len(pairs):
        often = [key for key, n in collections.Counter(key for key, _ in pairs).items() if n > 1]
        raise ValueError(f"two keys are called {lookup.listed(map(repr, often))}")
    return made


def _csv(file, columns, usual: str, unusual):
    data = _files.read_utf8(file)
    separator = _separator(data, columns, usual, file)
    if separator != usual:
        unusual.setdefault(SEPARATORS[separator], []).append(file)
    header = None
    for line, record in _records(data, separator, file):
        where = f"{file}, line {line}"
        if header is None:
            header = record
            _check(columns, header, where)
            _check_once(columns, header, where)
        elif len(record) != len(header):
            raise DataError(
                f"{where}: got {len(record)} cells, wanted {len(header)}, one for each of {lookup.listed(header)}: "
                f"put a cell that contains {separator!r} in quotes."
            )
        else:
            yield where, dict(zip(header, record, strict=True))


def _separator(data: bytes, columns, usual: str, file) -> str:
    """The first separator that finds all columns in the header; if none does, the one that finds the most cells."""
    cells = {}
    for separator in dict.fromkeys((usual, *SEPARATORS)):
        try:
            _, header = next(_records(data, separator, file), (1, []))
        except DataError:  # with this separator, quotes are in the wrong places
            continue
        if set(columns) <= set(header):
            return separator
        cells[separator] = len(header)
    return max(cells, key=cells.get, default=usual)


def _records(data: bytes, separator: str, file) -> Iterator[tuple[int, list[str]]]:
    """Yields (first line, cells) of each record. A cell may be longer than the csv module's limit of 131,072."""
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(data), "utf-8", newline=""), delimiter=separator, strict=True)
    while True:
        limit = csv.field_size_limit(2**31 - 1)
        begin = reader.line_num + 1
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{file}, line {reader.line_num}: not csv ({error}): check its quotes.") from error
        finally:
            csv.field_size_limit(limit)
        if record is None:
            return
        if record:
            yield begin, record


def _parquet(file, columns):
    parquet = lookup.require("pyarrow.parquet", "data", "data.name='table' with parquet")
    data = _files.read_bytes(file)  # gives the same errors as for other files
    number = 0
    try:
        table = parquet.ParquetFile(io.BytesIO(data))
        _check(columns, table.schema_arrow.names, str(file))
        _check_once(columns, table.schema_arrow.names, str(file))
        for batch in table.iter_batches(columns=columns, batch_size=1024):  # a small packed cell may hold much
            for record in batch.to_pylist():
                yield f"{file}, row {number}", record
                number += 1
    except (OSError, ValueError, RuntimeError) as error:  # the base classes of pyarrow's own errors
        after = f" after row {number - 1}" if number else ""
        raise DataError(f"{file} is not readable as parquet{after} ({error}): write it again.") from error
