"""Pairs of texts: a source, and the text that answers it."""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np

from seqjax.data import _files
from seqjax.data._stored import Stored
from seqjax.data._tokens import SPAN, SPELT, Measure, Tokenized, made, unlearnt, widths
from seqjax.tokenizers._sides import Sides
from seqjax.tokenizers.character import Character
from seqjax.types import DataError, Part, Range

SIDE = "{}"  # stands for `source` or `target` in the path of a file


class Pair(NamedTuple):
    """Two texts, and the place they come from."""

    where: str
    source: str
    target: str


@dataclasses.dataclass(kw_only=True)
class Pairs(Stored):
    """Pairs: your own pairs of texts, line by line: sentences and their translations, words and their pronunciations.

        a.en  line 7   A cat sleeps.            source   the ids of the text, then an id that ends it
        a.de  line 7   Eine Katze schläft.      tokens   an id that begins, the ids of the text, an id that ends it

    `train`, `validation`, `test`: a path. If it has `{}`, it stands for two files, line n of one pairs with line n of
    the other: `train="data/train.{}.gz"` with `source="en"` and `target="de"` reads data/train.en.gz and
    data/train.de.gz. Without `{}`, it is one file with two columns, source and target, with a tab between them. Files
    are UTF-8, plain or `.gz`.

    `tokenizer`: of both sides, trained on both, or only of the target if there is a `source_tokenizer`. It is trained
    on train, and saved with the run. `empty`: a pair with an empty side (nothing but white space) is an "error", or
    dropped with its line ("drop"). `max_length_ratio`: pairs of train are dropped whose longer side has more than so
    many times the tokens of the shorter one; None: none is.

    Raises:
      DataError: with absolute path and line: a file is missing or not UTF-8, the two files have unequal counts of
        lines, a line does not have two columns, a side is empty; no pair is left.
      ValueError: `source` and `target` do not fit the paths.
    """

    train: str
    validation: str | None = None
    test: str | None = None
    source: str | None = None
    target: str | None = None
    tokenizer: Tokenized = Character
    source_tokenizer: Annotated[Callable | str | None, Part("seqjax.tokenizers", "Tokenizer")] = None
    empty: Literal["error", "drop"] = "error"
    max_length_ratio: Annotated[float, Range(least=1)] | None = None

    def __post_init__(self):
        super().__post_init__()
        paths = {"train": self.train, "validation": self.validation, "test": self.test}
        paths = {split: path for split, path in paths.items() if path is not None}
        for path in paths.values():
            if (SIDE in path) != (self.source is not None) or (SIDE in path) != (self.target is not None):
                raise ValueError(
                    f"got source={self.source!r} and target={self.target!r} with the path {path!r}: name both for a "
                    f"path with {SIDE}, which stands for two files, and none for a file with two columns."
                )
        self.keep_pairs({split: self._read(path) for split, path in paths.items()})

    def keep_pairs(self, records: dict[str, list[Pair]]) -> None:
        """Makes the tokenizers, and stores split -> pairs."""
        target = made(self.tokenizer)
        source = target if self.source_tokenizer is None else made(self.source_tokenizer)
        self.learn(lambda: Sides(source=source, tokens=target), lambda: (pair[1:] for pair in records["train"]))
        notes, arrays, measures = [], {}, {}
        for side, name in ((self.codec.sides["source"], "source"), (self.codec.sides["tokens"], "target")):
            texts = {split: [getattr(pair, name) for pair in found] for split, found in records.items()}
            wheres = {split: [pair.where for pair in found] for split, found in records.items()}
            ids = {split: side.codec.encode_all(texts[split], wheres[split]) for split in texts}
            notes += [f"{name}: {note}" for note in unlearnt(side.codec, ids, texts)]
            measures |= {f"{split} ({name})": Measure.of(side.codec, texts[split], ids[split]) for split in texts}
            arrays[name] = {split: [side.framed(ids_L) for ids_L in found] for split, found in ids.items()}
        self.notes = tuple(notes)
        self.tell(measures)
        self._drop_uneven(records, arrays)
        longest = max(len(ids_S) for found in arrays["source"].values() for ids_S in found)
        tokens, size = self.codec.sides["tokens"], self.codec.sides["source"].size
        self.keep("tokens", tokens.size, arrays["target"], source=(size, longest), end=tokens.end, unit=self.codec.unit)
        self.attach("source", self.spec.fields["source"], arrays["source"])
        if self.codec.unit not in SPELT:
            span = lambda pair: widths(target.align(pair.target, pair.where).spans_L2, pair.where)
            framed = lambda pair: np.pad(span(pair), 1).astype(np.float32)
            self.attach("span", SPAN, {split: [framed(pair) for pair in found] for split, found in records.items()})

    def _drop_uneven(self, records: dict, arrays: dict) -> None:
        """Drops the pairs of train whose sides have too different lengths."""
        if self.max_length_ratio is None:
            return
        # Without the ids that begin and end a text.
        lengths = zip(*(map(len, arrays[name]["train"]) for name in ("source", "target")), strict=True)
        both = [sorted((S - 1, L - 2)) for S, L in lengths]
        kept = [long <= self.max_length_ratio * short for short, long in both]
        if not any(kept):
            raise DataError(f"no pair of train has data.max_length_ratio={self.max_length_ratio} or less: raise it.")
        for found in (records, arrays["source"], arrays["target"]):
            found["train"] = list(itertools.compress(found["train"], kept))
        if dropped := kept.count(False):
            self.notes += (f"{dropped:,} of the {len(kept):,} pairs of train were dropped: max_length_ratio",)

    def _read(self, path: str) -> list[Pair]:
        """The pairs of a split."""
        if SIDE in path:
            files = [_files.absolute(path.replace(SIDE, side)) for side in (self.source, self.target)]
            columns = [_lines(file) for file in files]
            if len(columns[0]) != len(columns[1]):
                raise DataError(
                    f"{files[0]} has {len(columns[0]):,} lines, and {files[1]} has {len(columns[1]):,}: line n of one "
                    "must pair with line n of the other, so add what is missing."
                )
            where = f"{files[0]} and {files[1].name}"
            pairs = list(zip(*columns, strict=True))
        else:
            where, pairs = str(file := _files.absolute(path)), [line.split("\t") for line in _lines(file)]
        found = []
        for number, cells in enumerate(pairs, start=1):
            at = f"{where}, line {number}"
            if len(cells) != 2:
                raise DataError(f"{at}: got {len(cells)} columns, wanted 2 with a tab between them.")
            if all(map(str.strip, cells)):
                found.append(Pair(at, *cells))
            elif self.empty == "error":
                side = "target" if cells[0].strip() else "source"
                raise DataError(f"{at}: the {side} is empty: fill it in, or leave the pair out (data.empty='drop').")
        if not found:
            raise DataError(f"{where}: no pair has two sides that are not empty, wanted at least one.")
        return found


def _lines(file: Path) -> list[str]:
    """The lines of a file; only \\n ends a line."""
    return [line.removesuffix("\r") for line in _files.read_text(file).removesuffix("\n").split("\n")]


Source = Pairs
