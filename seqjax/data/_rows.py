"""Rows of .jsonl, .csv and .parquet files, each with the place it comes from."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

from seqjax import lookup
from seqjax.data import _files
from seqjax.types import DataError

SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".parquet")


def rows(file: Path, columns: list[str]) -> Iterator[tuple[str, dict]]:
    """Yields ("<path>, line 7" or "<path>, row 6", column -> value); a csv record counts where it begins.

    Lines count from 1, as editors do; rows of parquet from 0, as its readers do. Blank lines are passed over.

    Raises:
      DataError: with path and line or row: no such column, a broken record, an unknown kind of file.
    """
    kind = next((s for s in SUFFIXES if file.name.endswith(s)), None)
    if kind is None:
        raise DataError(f"{file} ends in {file.suffix!r}, wanted one of {', '.join(SUFFIXES)}: rename or convert it.")
    read = {"jsonl": _jsonl, "csv": _csv, "parquet": _parquet}[kind.split(".")[1]]
    return read(file, columns)


def _check(columns, there, where: str):
    for column in columns:
        if column not in there:
            near = lookup.nearest(column, there)
            raise DataError(f"{where}: no column {column!r}.{near} It has: {', '.join(map(str, there)) or 'none'}.")


def _jsonl(file, columns):
    # Only \n ends a record: str.splitlines would also cut at U+2028, which JSON allows inside strings.
    for number, line in enumerate(_files.read_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:  # the latter: nested too deep
            raise DataError(f"{where}: not JSON ({error}): wanted one object per line.") from error
        if not isinstance(record, dict):
            raise DataError(f"{where}: got a {type(record).__name__}, wanted an object such as {{'text': '...'}}.")
        _check(columns, record, where)
        yield where, record


def _csv(file, columns):
    reader = csv.reader(io.StringIO(_files.read_text(file), newline=""), strict=True)
    header, begin = None, 1
    for record in _unlimited(reader, file):
        where, begin = f"{file}, line {begin}", reader.line_num + 1
        if not record:
            continue
        if header is None:
            header = record
            if len(set(header)) < len(header):
                raise DataError(f"{where}: two columns have the same name, got {header}: rename one.")
            _check(columns, header, where)
        elif len(record) != len(header):
            raise DataError(f"{where}: got {len(record)} cells, wanted {len(header)}, one for each of {header}.")
        else:
            yield where, dict(zip(header, record, strict=True))


def _unlimited(reader, file):
    """The records of a csv reader, however long a cell: sequences easily pass the module's limit of 131,072."""
    while True:
        limit = csv.field_size_limit(2**31 - 1)
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{file}, line {reader.line_num}: not csv ({error}): check its quotes.") from error
        finally:
            csv.field_size_limit(limit)
        if record is None:
            return
        yield record


def _parquet(file, columns):
    parquet = lookup.require("pyarrow.parquet", "data", "data.name='table' with parquet")
    data = _files.read_bytes(file)  # what can be wrong with any file is said in the same words
    number = 0
    try:
        table = parquet.ParquetFile(io.BytesIO(data))
        _check(columns, table.schema_arrow.names, str(file))
        for batch in table.iter_batches(columns=columns):
            for record in batch.to_pylist():
                yield f"{file}, row {number}", record
                number += 1
    except (OSError, ValueError, RuntimeError) as error:  # the kinds that pyarrow's own errors are
        after = f" after row {number - 1}" if number else ""
        raise DataError(f"{file} is not readable as parquet{after} ({error}): write it again.") from error
