"""Columns of jsonl, csv or parquet files."""

import collections
import dataclasses
import re
import sys
import unicodedata
from decimal import Decimal
from pathlib import Path

import numpy as np

from seqjax import lookup
from seqjax.data import _files
from seqjax.data._rows import rows
from seqjax.data._stored import Stored
from seqjax.data._tokens import SPAN, SPELT, Measure, Tokenized, unlearnt, widths
from seqjax.tokenizers._base import encoded
from seqjax.tokenizers.character import Character
from seqjax.types import DataError

FLOAT32_MAX = float(np.finfo(np.float32).max)
NUMBER = re.compile(r"[+-]?[0-9]+([.][0-9]+)?")
RECORD = 300  # bytes that a record takes besides its content, roughly


@dataclasses.dataclass(kw_only=True)
class Table(Stored):
    """Table: your own records, one sequence each, from columns of jsonl, csv or parquet files.

        {"text": "so good", "stars": "5"}       text="text", label="stars"       tokens 4 3 0 2 3 3 1   label 4
        {"pulse": [0.1, 0.4], "who": "b"}       features="pulse", label="who"    features (2, 1)        label 1
        {"pose": [[1, 2, 3], [4, 5, 6]]}        features="pose"                  features (2, 3)

    `train`, `validation`, `test`: one path or glob each. Files end in `.jsonl`, `.csv` or `.tsv` (with a header), or
    in one of these and `.gz`, or in `.parquet` (extra `data`). The separator of a csv file is the comma, semicolon,
    tab or bar that finds the named columns in the header. Name either `text`, the column with text, or `features`, the
    column with a list of numbers, one per step, or a list of equally long lists of numbers (not in csv). `label`: the
    column with strings or whole numbers; white space around a label is removed. Classes are the sorted labels of
    train; strings are sorted by value if all of them are numbers. In other splits 1 and "1" are the same label,
    because csv has only strings. `tokenizer`: "character" (the alphabet is that of train, with one extra id for all
    other characters), "byte", or one that is trained on train, such as "bpe". Without `label`, texts are documents for
    task.name='next_token'.

    Raises:
      DataError: with absolute path and line (from 1) or row (of parquet, from 0): a missing file, column or cell, an
        empty file or text, invalid JSON or UTF-8, a feature that is not a finite number, lists of unequal length, a
        label that train does not have, only one label, one file in two splits, records beyond half the memory.
      ConfigError: a file is parquet, and pyarrow is not installed.
    """

    train: str
    validation: str | None = None
    test: str | None = None
    text: str | None = None
    features: str | None = None
    label: str | None = None
    tokenizer: Tokenized = Character

    def __post_init__(self):
        super().__post_init__()
        if (self.text is None) == (self.features is None):
            raise ValueError(
                f"got text={self.text!r} and features={self.features!r}: name one column, either text or features."
            )
        files = _files.splits(train=self.train, validation=self.validation, test=self.test)
        unusual, spaced = {}, []
        records = {split: self._read(found, unusual, spaced) for split, found in files.items()}
        notes = [f"cells are separated by {name} in {_several(at)}" for name, at in unusual.items()]
        if spaced:
            notes.append(f"white space around the label was removed in {_several(spaced)}")
        self.notes = tuple(notes)
        labels = self._number_labels(records) if self.label is not None else None
        if self.features is not None:
            arrays = {split: [r[1] for r in found] for split, found in records.items()}
            self._check_widths(records)
            self.keep("features", records["train"][0][1].shape[1], arrays, labels)
        else:
            texts = {split: [r[1] for r in found] for split, found in records.items()}
            self.learn(self.tokenizer, train=lambda: texts["train"])
            arrays = {split: self._encode(found) for split, found in records.items()}
            self.notes += tuple(unlearnt(self.codec, arrays, texts))
            self.tell({split: Measure.of(self.codec, texts[split], arrays[split]) for split in texts})
            self.keep("tokens", self.codec.size, arrays, labels, unit=self.codec.unit)
            if labels is None and self.codec.unit not in SPELT:
                span = lambda where, text: widths(self.codec.align(text, where).spans_L2, where).astype(np.float32)
                self.attach("span", SPAN, {split: [span(*r[:2]) for r in found] for split, found in records.items()})

    def _encode(self, records: list[tuple]) -> list[np.ndarray]:
        """The ids of each text."""
        wheres, texts, _ = zip(*records, strict=True)
        found = self.codec.encode_all(texts, wheres)
        for where, ids_L in zip(wheres, found, strict=True):
            if not len(ids_L):
                raise DataError(f"{where}: the text is only white space, which gives no token: delete the record.")
        return found

    def _read(self, files: list[Path], unusual: dict, spaced: list[str]) -> list[tuple]:
        """(where, text or features, label) of every row."""
        column, value = (self.text, _as_text) if self.features is None else (self.features, _as_features)
        columns = [c for c in (column, self.label) if c is not None]
        records, nbytes, most = [], 0, _files.memory() // 2
        for file in files:
            before = len(records)
            for where, row in rows(file, columns, unusual):
                label = None if self.label is None else _as_label(row[self.label], f"{where}, column {self.label!r}")
                if isinstance(label, str) and label != label.strip():
                    label = label.strip()
                    spaced.append(where)
                records.append((where, value(row[column], f"{where}, column {column!r}"), label))
                nbytes += sys.getsizeof(records[-1][1]) + sys.getsizeof(where) + RECORD
                if nbytes > most:  # a small packed file may hold much
                    raise DataError(
                        f"{where}: the records up to here take half the memory, {most:,} bytes: use fewer records."
                    )
            if len(records) == before:
                raise DataError(f"{file} has 0 records, wanted at least one: fill it or leave it out.")
        return records

    def _number_labels(self, records) -> dict[str, list[int]]:
        seen = {}  # label -> where it first stands
        for where, _, label in records["train"]:
            seen.setdefault(label, where)
        if len(seen) == 1:
            ((label, where),) = seen.items()
            raise DataError(
                f"{where}: all {len(records['train']):,} records of train have the label {_short(label)}, wanted two "
                "classes or more: leave data.label out, or name another column."
            )
        kinds = {type(label): (where, label) for label, where in seen.items()}
        if len(kinds) > 1:
            both = " and ".join(f"{_short(label)} ({where})" for where, label in kinds.values())
            raise DataError(f"column {self.label!r} mixes strings and numbers, {both}: make them all strings.")
        numbers = all(isinstance(label, str) and NUMBER.fullmatch(label) for label in seen)  # as in csv
        self.classes = tuple(sorted(seen, key=lambda label: (Decimal(label), label) if numbers else label))
        self.notes += tuple(_look_alike(self.classes, numbers))
        ids = {str(label): i for i, label in enumerate(self.classes)}
        for where, _, label in (r for found in records.values() for r in found):
            if str(label) not in ids:
                near = lookup.nearest(label, ids)
                raise DataError(
                    f"{where}: label {_short(label)} is not among the {len(ids)} of train.{near} Correct it, or add "
                    "an example of it to train."
                )
        return {split: [ids[str(r[2])] for r in found] for split, found in records.items()}

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
    if isinstance(value, str) and not value.strip():
        raise DataError(f"{where}: the cell is empty: fill it in or delete the record.")
    return value


def _look_alike(classes, numbers: bool):
    """Yields a sentence for each group of labels that look alike, such as 1 and 01, or Yes and yes."""
    groups = collections.defaultdict(list)
    for label in classes:
        groups[Decimal(label) if numbers else unicodedata.normalize("NFKC", str(label)).casefold()].append(label)
    for group in groups.values():
        if len(group) > 1:
            yield f"the labels {lookup.listed(map(repr, group))} count as different classes"


def _several(places: list) -> str:
    return f"{places[0]}" + f" and {len(places) - 1:,} more" * (len(places) > 1)


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
    return f"{_short(value)} ({type(value).__name__})"


def _short(value) -> str:
    text = repr(value)
    return text if len(text) < 40 else text[:37] + "..."


Source = Table
