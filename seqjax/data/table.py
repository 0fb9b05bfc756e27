"""Columns of jsonl, csv or parquet files."""

import dataclasses
from pathlib import Path

import numpy as np

from seqjax import lookup
from seqjax.data import _files
from seqjax.data._rows import rows
from seqjax.data._stored import Stored
from seqjax.data._text import Tokens, codec, encoded
from seqjax.types import DataError

FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclasses.dataclass(kw_only=True)
class Table(Stored):
    """Table: your own records, one sequence each, from columns of jsonl, csv or parquet files.

        {"text": "so good", "stars": "5"}       text="text", label="stars"       tokens 4 3 0 2 3 3 1   label 4
        {"pulse": [0.1, 0.4], "who": "b"}       features="pulse", label="who"    features (2, 1)        label 1
        {"pose": [[1, 2, 3], [4, 5, 6]]}        features="pose"                  features (2, 3)

    `train`, `validation`, `test`: a path or a glob each; `.jsonl`, `.csv` (with a header), both also `.gz`, and
    `.parquet` (extra `data`). `text`: the column with text, or `features`: the column with a list of numbers, one per
    step, or of equally long lists of numbers (not in csv). `label`: a column with strings or whole numbers; classes
    are the sorted values of train; in other splits 1 and "1" are the same, as csv has only strings. `tokens`:
    "character", out of those in train and one id more for all others, or "byte". Without `label`, texts are documents
    for task.name='next_token'.

    Raises:
      DataError: with absolute path and line (from 1) or row (of parquet, from 0): no such file, column or cell, an
        empty file or text, invalid JSON or UTF-8, a feature that is not a finite number, lists of unequal length, a
        label that train does not have, one file in two splits.
      ConfigError: parquet, and pyarrow is not installed.
    """

    train: str
    validation: str | None = None
    test: str | None = None
    text: str | None = None
    features: str | None = None
    label: str | None = None
    tokens: Tokens = "character"

    def __post_init__(self):
        super().__post_init__()
        if (self.text is None) == (self.features is None):
            raise ValueError(
                f"got text={self.text!r} and features={self.features!r}: name one column, either text or features."
            )
        patterns = {"train": self.train, "validation": self.validation, "test": self.test}
        files = {split: _files.matches(pattern) for split, pattern in patterns.items() if pattern is not None}
        self._check_apart(files)
        records = {split: self._read(found) for split, found in files.items()}
        labels = self._number_labels(records) if self.label is not None else None
        if self.features is not None:
            arrays = {split: [r[1] for r in found] for split, found in records.items()}
            self._check_widths(records)
            self.keep("features", arrays, labels, features=records["train"][0][1].shape[1])
        else:
            self.codec = codec(self.tokens, (r[1] for r in records["train"]), unknown=True)
            arrays = {split: [self.codec.encode(r[1], r[0]) for r in found] for split, found in records.items()}
            self.keep("tokens", arrays, labels, vocabulary=self.codec.size, unit=self.codec.unit)

    def _read(self, files: list[Path]) -> list[tuple]:
        """(where, text or features, label) of every row."""
        column, value = (self.text, _as_text) if self.features is None else (self.features, _as_features)
        columns = [c for c in (column, self.label) if c is not None]
        records = []
        for file in files:
            before = len(records)
            for where, row in rows(file, columns):
                label = None if self.label is None else _as_label(row[self.label], f"{where}, column {self.label!r}")
                records.append((where, value(row[column], f"{where}, column {column!r}"), label))
            if len(records) == before:
                raise DataError(f"{file} has 0 records, wanted at least one: fill it or leave it out.")
        return records

    def _number_labels(self, records) -> dict[str, list[int]]:
        seen = {}  # label -> where it first stands
        for where, _, label in records["train"]:
            seen.setdefault(label, where)
        kinds = {type(label): (where, label) for label, where in seen.items()}
        if len(kinds) > 1:
            both = " and ".join(f"{label!r} ({where})" for where, label in kinds.values())
            raise DataError(f"column {self.label!r} mixes strings and numbers, {both}: make them all strings.")
        self.classes = tuple(sorted(seen))
        ids = {str(label): i for i, label in enumerate(self.classes)}
        for where, _, label in (r for found in records.values() for r in found):
            if str(label) not in ids:
                near = lookup.nearest(label, ids)
                raise DataError(
                    f"{where}: label {label!r} is not among the {len(ids)} of train.{near} Correct it, or give train "
                    f"an example of it."
                )
        return {split: [ids[str(r[2])] for r in found] for split, found in records.items()}

    def _check_apart(self, files):
        owner = {}
        for split, found in files.items():
            for file in found:
                other = owner.setdefault(file.resolve(), split)
                if other != split:
                    raise DataError(f"{file} is in both {other} and {split}: narrow the pattern of one of them.")

    def _check_widths(self, records):
        first, wanted = records["train"][0][0], records["train"][0][1].shape[1]
        for where, value, _ in (r for found in records.values() for r in found):
            if value.shape[1] != wanted:
                raise DataError(f"{where}: {value.shape[1]} features per step, wanted {wanted} as in {first}.")


def _as_text(value, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where}: got {_shown(value)}, wanted text.")
    if not value:
        raise DataError(f"{where}: the text is empty: fill it in or delete the record.")
    encoded(value, "utf-8", where)
    return value


def _as_label(value, where: str) -> str | int:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise DataError(f"{where}: got {_shown(value)}, wanted a string or a whole number.")
    if value == "":
        raise DataError(f"{where}: the cell is empty: fill it in or delete the record.")
    return value


def _as_features(value, where: str) -> np.ndarray:
    """A list of numbers -> (L, 1), a list of lists -> (L, F)."""
    if not isinstance(value, list) or not value:
        raise DataError(f"{where}: got {_shown(value)}, wanted a list of numbers, or of lists of numbers.")
    steps = value if isinstance(value[0], list) else [[number] for number in value]
    for step, vector in enumerate(steps):
        if not isinstance(vector, list) or not vector or len(vector) != len(steps[0]):
            wanted = f"{len(steps[0])} numbers as in step 0" if steps[0] else "numbers"
            raise DataError(f"{where}, step {step}: got {_shown(vector)}, wanted a list of {wanted}.")
        for number in vector:
            # False for NaN too, and exact for a whole number of any size.
            if type(number) not in (int, float) or not abs(number) <= FLOAT32_MAX:
                raise DataError(f"{where}, step {step}: got {_shown(number)}, wanted a finite float32 number.")
    return np.array(steps, np.float32)


def _shown(value) -> str:
    """A value in an error: short, and with its type."""
    text = repr(value)
    return f"{text if len(text) < 40 else text[:37] + '...'} ({type(value).__name__})"


Source = Table
