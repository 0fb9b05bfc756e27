"""Columns of jsonl, csv or parquet files."""

import collections
import dataclasses
import re
import sys
import unicodedata
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seqjax import lookup
from seqjax.data import _cells, _files
from seqjax.data._rows import rows
from seqjax.data._texts import Texts
from seqjax.data._tokens import SPAN, SPELT, Tokenized, widths
from seqjax.tokenizers.character import Character
from seqjax.types import DataError

NUMBER = re.compile(r"[+-]?[0-9]+([.][0-9]+)?")
RECORD = 300  # bytes that a record takes besides its content, roughly


class Record(NamedTuple):
    """One row of a table, and where it stands."""

    where: str
    value: str | np.ndarray  # text or features
    labels: tuple[str | int, ...]
    source: str | None


@dataclasses.dataclass(kw_only=True)
class Table(Texts):
    """Table: your own records, one sequence each, from columns of jsonl, csv or parquet files.

        {"text": "so good", "stars": "5"}       text="text", label="stars"       tokens 4 3 0 2 3 3 1   label 4
        {"text": "ok", "mood": ["calm", "glad"]} text="text", labels="mood"      tokens 1 0    labels True True
        {"pulse": [0.1, 0.4], "who": "b"}       features="pulse", label="who"    features (2, 1)        label 1
        {"pose": [[1, 2, 3], [4, 5, 6]]}        features="pose"                  features (2, 3)

    `train`, `validation`, `test`: one path or glob each. Files end in `.jsonl`, `.csv` or `.tsv` (with a header), or
    in one of these and `.gz`, or in `.parquet` (extra `data`). The separator of a csv file is the comma, semicolon,
    tab or bar that finds the named columns in the header. Name either `text`, the column with text, or `features`, the
    column with a list of numbers, one per step, or a list of equally long lists of numbers (not in csv). `source`: the
    column with a second text, which the first one answers, such as the premise of a hypothesis.

    `label`: the column with strings or whole numbers; white space around a label is removed. Classes are the sorted
    labels of train; strings are sorted by value if all of them are numbers. In other splits 1 and "1" are the same
    label, because csv has only strings. `labels`, in place of `label`: the column with any number of labels for
    task.name='multi_label', a list or a string with `label_separator` between the labels.

    `tokenizer`: "character" (the alphabet is that of train, with one extra id for all other characters), "byte", or one
    that is trained on train, such as "bpe". Without labels, texts are documents for task.name='next_token'.

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
    source: str | None = None
    features: str | None = None
    label: str | None = None
    labels: str | None = None
    label_separator: str = ","
    tokenizer: Tokenized = Character

    def __post_init__(self):
        super().__post_init__()
        if (self.text is None) == (self.features is None):
            raise ValueError(
                f"got text={self.text!r} and features={self.features!r}: name one column, either text or features."
            )
        if self.source is not None and self.text is None:
            raise ValueError(f"source={self.source!r} is a second text beside a text: name the column of that in text.")
        if self.label is not None and self.labels is not None:
            raise ValueError(
                f"got label={self.label!r} and labels={self.labels!r}: name one column, label for one class per record "
                "or labels for any number of them."
            )
        if not self.label_separator.strip():
            raise ValueError(
                f"label_separator={self.label_separator!r} is white space: name a sign, such as ',' or '|'."
            )
        files = _files.splits(train=self.train, validation=self.validation, test=self.test)
        unusual, spaced = {}, []
        records = {split: self._read(found, unusual, spaced) for split, found in files.items()}
        notes = [f"cells are separated by {name} in {_several(at)}" for name, at in unusual.items()]
        if spaced:
            notes.append(f"white space around the label was removed in {_several(spaced)}")
        self.notes = tuple(notes)
        numbered = {}
        if self.label is not None:
            numbered["label"] = {split: [ids[0] for ids in found] for split, found in self._number(records).items()}
        elif self.labels is not None:
            numbered["labels"] = self._number(records)
        if self.features is not None:
            arrays = {split: [r.value for r in found] for split, found in records.items()}
            self._check_widths(records)
            self.keep("features", arrays["train"][0].shape[1], arrays, numbered.get("label"))
            self.mark(numbered.get("labels"))
        else:
            each = lambda name: {split: [getattr(r, name) for r in found] for split, found in records.items()}
            second = {"sources": each("source")} if self.source is not None else {}
            self.keep_texts(each("value"), wheres=each("where"), **numbered, **second)
            if not numbered and self.codec.unit not in SPELT:
                span = lambda r: widths(self.codec.align(r.value, r.where).spans_L2, r.where).astype(np.float32)
                self.attach("span", SPAN, {split: [*map(span, found)] for split, found in records.items()})

    def _read(self, files: list[Path], unusual: dict, spaced: list[str]) -> list[Record]:
        column, value = (self.text, _cells.text) if self.features is None else (self.features, _cells.features)
        columns = [c for c in (column, self.source, self.label, self.labels) if c is not None]
        records, nbytes, most = [], 0, _files.memory() // 2
        for file in files:
            before = len(records)
            for where, row in rows(file, columns, unusual):
                cell = lambda name, row=row, where=where: (row[name], f"{where}, column {name!r}")
                labels = ()
                if self.label is not None:
                    labels = (_cells.label(*cell(self.label)),)
                elif self.labels is not None:
                    labels = _cells.labels(*cell(self.labels), self.label_separator)
                stripped = tuple(label.strip() if isinstance(label, str) else label for label in labels)
                if stripped != labels and self.label is not None:
                    spaced.append(where)
                source = None if self.source is None else _cells.text(*cell(self.source))
                records.append(Record(where, value(*cell(column)), stripped, source))
                nbytes += sum(map(sys.getsizeof, (where, records[-1].value, source))) + RECORD
                if nbytes > most:  # a small packed file may hold much
                    raise DataError(
                        f"{where}: the records up to here take half the memory, {most:,} bytes: use fewer records."
                    )
            if len(records) == before:
                raise DataError(f"{file} has 0 records, wanted at least one: fill it or leave it out.")
        return records

    def _number(self, records: dict[str, list[Record]]) -> dict[str, list[list[int]]]:
        """The class ids of each record; sets `classes`, the labels of train."""
        column, seen = self.label or self.labels, {}  # label -> where it first stands
        for record in records["train"]:
            for label in record.labels:
                seen.setdefault(label, record.where)
        if not seen:
            raise DataError(f"column {column!r}: no record of train has a label: name another column.")
        if len(seen) == 1 and self.label is not None:
            ((label, where),) = seen.items()
            raise DataError(
                f"{where}: all {len(records['train']):,} records of train have the label {_cells.short(label)}, wanted "
                "two classes or more: leave data.label out, or name another column."
            )
        kinds = {type(label): (where, label) for label, where in seen.items()}
        if len(kinds) > 1:
            both = " and ".join(f"{_cells.short(label)} ({where})" for where, label in kinds.values())
            raise DataError(f"column {column!r} mixes strings and numbers, {both}: make them all strings.")
        numbers = all(isinstance(label, str) and NUMBER.fullmatch(label) for label in seen)  # as in csv
        self.classes = tuple(sorted(seen, key=lambda label: (Decimal(label), label) if numbers else label))
        self.notes += tuple(_look_alike(self.classes, numbers))
        ids = {str(label): i for i, label in enumerate(self.classes)}
        for record in (r for found in records.values() for r in found):
            for label in record.labels:
                if str(label) not in ids:
                    near = lookup.nearest(label, ids)
                    raise DataError(
                        f"{record.where}: label {_cells.short(label)} is not among the {len(ids)} of train.{near} "
                        "Correct it, or add an example of it to train."
                    )
        if without := [r.where for found in records.values() for r in found if not r.labels]:
            self.notes += (f"no label: {_several(without)}",)
        return {split: [[ids[str(label)] for label in r.labels] for r in found] for split, found in records.items()}

    def _check_widths(self, records):
        first, wanted = records["train"][0].where, records["train"][0].value.shape[1]
        for where, value, *_ in (r for found in records.values() for r in found):
            if value.shape[1] != wanted:
                raise DataError(f"{where}: {value.shape[1]} features per step, wanted {wanted} as in {first}.")


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


Source = Table
