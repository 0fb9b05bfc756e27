"""Text as token ids, and one long text cut into windows."""

import dataclasses
import itertools
import lzma
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import numpy as np

from seqjax import spec
from seqjax.data import _files
from seqjax.data._random import generator
from seqjax.data._source import Source
from seqjax.types import Count, DataError

Tokens = Literal["character", "byte"]
COMPRESSED = 4_000_000  # the most tokens that are compressed for a baseline


def encoded(text: str, encoding: str, where: str) -> bytes:
    """`text.encode(encoding)`; a lone surrogate is a DataError that names its place."""
    try:
        return text.encode(encoding)
    except UnicodeEncodeError as error:
        point = ord(text[error.start])
        raise DataError(
            f"{where}: character {error.start} is the lone surrogate U+{point:04X}, half of a character: remove it."
        ) from error


class Bytes:
    """UTF-8 bytes as ids 0 ... 255; they can encode every text."""

    unit = "byte"
    size = 256
    unknown = None

    def encode(self, text: str, where: str = "this text") -> np.ndarray:
        return np.frombuffer(encoded(text, "utf-8", where), np.uint8).astype(np.int32)

    def decode(self, ids: np.ndarray) -> str:
        # A window may begin or end inside a character.
        return np.asarray(ids, np.uint8).tobytes().decode(errors="replace")


class Alphabet:
    """The characters of texts, sorted, as ids; with `unknown`, one extra id for all others, shown as U+FFFD."""

    unit = "character"

    def __init__(self, texts: Iterable[str], unknown: bool = False):
        seen_P = np.zeros(sys.maxunicode + 1, bool)
        for text in texts:
            seen_P[_points(text, "this text")] = True
        self.points_V = np.flatnonzero(seen_P).astype("<u4")
        self.unknown = len(self.points_V) if unknown else None
        self.shown_V = np.append(self.points_V, 0xFFFD) if unknown else self.points_V
        self.size = len(self.shown_V)
        # Code point -> id. Unknown code points, also those above the highest known one, get the last id + 1.
        self._ids_P = np.full(self.points_V.max(initial=0) + 2, len(self.points_V), np.int32)
        self._ids_P[self.points_V] = np.arange(len(self.points_V))

    def encode(self, text: str, where: str = "this text") -> np.ndarray:
        ids_L = np.take(self._ids_P, _points(text, where), mode="clip")
        if self.unknown is None and (strange_L := ids_L == len(self.points_V)).any():
            first = int(np.argmax(strange_L))
            raise DataError(
                f"{where}: character {first} is {text[first]!r} (U+{ord(text[first]):04X}), which is not among "
                f"the {self.size} known characters: leave it out, or use data.tokenizer='byte'."
            )
        return ids_L

    def decode(self, ids: np.ndarray) -> str:
        return self.shown_V[np.asarray(ids)].astype("<u4").tobytes().decode("utf-32-le")


def _points(text: str, where: str) -> np.ndarray:
    """The code points of a text."""
    if text.isascii():
        return np.frombuffer(text.encode(), np.uint8)
    return np.frombuffer(encoded(text, "utf-32-le", where), "<u4")


def codec(tokens: Tokens, texts: Iterable[str], unknown: bool = False) -> Bytes | Alphabet:
    """The codec that turns text into ids and back; an alphabet has the characters of `texts`."""
    return Bytes() if tokens == "byte" else Alphabet(texts, unknown)


def counts(ids_L: np.ndarray, size: int) -> np.ndarray:
    """How often each id occurs: (V,)."""
    return sum((np.bincount(part, minlength=size) for part in _parts([ids_L])), np.zeros(size, int))


def unlearnt(codec: Bytes | Alphabet, ids: dict, texts: dict | None = None) -> Iterator[str]:
    """Yields a sentence per split with tokens that train lacks; `ids` and `texts`: split -> those of its examples."""
    known_V = _occurring(ids["train"], codec.size)
    for split in [split for split in ids if split != "train"]:
        strange_V = _occurring(ids[split], codec.size) & ~known_V
        if not strange_V.any():
            continue
        tokens, of = sum(np.count_nonzero(strange_V[part]) for part in _parts(ids[split])), sum(map(len, ids[split]))
        distinct = np.count_nonzero(strange_V)
        if codec.unknown is not None:  # they share one id
            distinct = len(np.setdiff1d(Alphabet(texts[split]).points_V, codec.points_V))
        yield (
            f"{tokens:,} of the {of:,} {codec.unit}s of {split} ({tokens / of:.2%}, {distinct:,} distinct) do not "
            "occur in train: no model can have learnt them"
        )


def _occurring(arrays, size: int) -> np.ndarray:
    """Which ids occur: (V,)."""
    found_V = np.zeros(size, bool)
    for part in _parts(arrays):
        found_V[part] = True
    return found_V


def _parts(arrays) -> Iterator[np.ndarray]:
    """Arrays of ids in parts, to save memory: numpy turns each index into eight bytes."""
    return (ids_L[i : i + _files.PIECE] for ids_L in arrays for i in range(0, len(ids_L), _files.PIECE))


@dataclasses.dataclass(kw_only=True)
class Textual(Source):
    """A source whose tokens may be text: then it has a `codec`."""

    codec = None  # not a field: the subclass makes it from its data

    def encode(self, text: str) -> np.ndarray:
        return super().encode(text) if self.codec is None else self.codec.encode(text)

    def decode(self, ids: np.ndarray) -> str:
        return super().decode(ids) if self.codec is None else self.codec.decode(ids)

    def meaning(self) -> str | None:
        return None if self.codec is None else self.codec.decode(np.arange(self.codec.size))


@dataclasses.dataclass(kw_only=True)
class TextWindows(Textual):
    """One long text in contiguous splits, cut into windows of `length + 1` tokens with `length` predictions.

        train         t o b e o r n o t      endless; window i begins at a random place, a pure function of i
                        [o b e o]
                            [o r n o]
        validation    t h a t i s            finite; neighbours share one token, so every token except the very
                     [t h a t]               first is predicted exactly once; the last window may be shorter
                            [t i s]

    If the text has several documents, `reset` marks the first token of each.

    `length`: predictions per window. `tokenizer`: "character" (the alphabet is that of the whole text, every split)
    or "byte" (UTF-8). Metrics are in bits per character or per byte.

    Raises:
      DataError: a split is too short for one prediction, or train is shorter than one window.
    """

    length: Count = 256
    tokenizer: Tokens = "character"

    def cut(self, texts: Sequence[bytes], ends: dict[str, int], where: str):
        """Cuts documents in UTF-8 into splits; `ends`: split -> the number of characters up to its end, in order.

        The last split ends with the text. Memory holds the documents, and each token once in the narrowest dtype.
        """
        self.codec = codec(self.tokenizer, itertools.chain.from_iterable(map(_files.pieces, texts)))
        *_, last = ends.values()
        tokens = last if self.codec.unit == "character" else sum(map(len, texts))
        ids_N = np.empty(tokens, np.min_scalar_type(self.codec.size - 1))
        character, at, begins, places = 0, 0, [], dict.fromkeys(ends, 0)
        for text in texts:
            begins.append(at)
            for piece in _files.pieces(text):
                for split, end in ends.items():
                    if character < end <= character + len(piece):
                        places[split] = at + len(self.codec.encode(piece[: end - character]))
                ids_L = self.codec.encode(piece, where)
                ids_N[at : at + len(ids_L)] = ids_L
                character, at = character + len(piece), at + len(ids_L)
        ids_N.flags.writeable = False  # streams are slices of it
        self._ids, self._begins, begin, several = {}, {}, 0, len(texts) > 1
        for split, end in places.items():
            least = self.length + 1 if split == "train" else 2
            if end - begin < least:
                fix = "lower data.length" if split == "train" else "give this split a larger share"
                raise DataError(
                    f"{where}: split {split!r} has {end - begin} {self.codec.unit}s out of a text of {last} "
                    f"characters, wanted at least {least}: use a longer text, or {fix}."
                )
            self._ids[split] = ids_N[begin:end]
            if several:
                self._begins[split] = np.array([0, *(b - begin for b in begins if begin < b < end)])
            begin = end
        if self.codec.size == 1:
            raise DataError(f"{where} repeats one single character, so there is nothing to predict: use another text.")
        how = dict(reset=several, unit=self.codec.unit, splits=tuple(ends))
        self.spec = spec.tokens(self.codec.size, self.length + 1, **how)
        self.notes = tuple(unlearnt(self.codec, {split: [ids_L] for split, ids_L in self._ids.items()}))

    def _window(self, split: str, begin: int, end: int) -> dict[str, np.ndarray]:
        found = {"tokens": self._ids[split][begin:end]}
        if split in self._begins:
            begins = self._begins[split]
            found["reset"] = np.zeros(len(found["tokens"]), bool)
            found["reset"][begins[slice(*np.searchsorted(begins, [begin, end]))] - begin] = True
        return found

    def size(self, split):
        return None if split == "train" else -(-(len(self._ids[split]) - 1) // self.length)

    def example(self, split, index):
        size = self.size(split)
        if size is None:
            begin = int(generator(0, split, index).integers(len(self._ids[split]) - self.length))
        elif 0 <= index < size:
            begin = index * self.length
        else:
            raise IndexError(f"{split} has windows 0 ... {size - 1}, got {index}.")
        found = self._window(split, begin, begin + self.length + 1)
        return found | {"tokens": found["tokens"].astype(np.int32)}

    def stream(self, split):
        return self._window(split, 0, len(self._ids[split]))

    def lengths(self, split):
        # Every window except the last is full.
        length_B = np.full(self.size(split), self.length + 1)
        length_B[-1] = len(self._ids[split]) - (len(length_B) - 1) * self.length
        return length_B

    def baselines(self, split):
        """Bits per token of the split's own token frequencies, and of `xz -9e` on only its UTF-8 bytes.

        Compression takes seconds per million tokens: a split of more than four million is not compressed.
        """
        ids_L = self._ids[split]
        counts_V = counts(ids_L, self.codec.size)
        share_V = counts_V[counts_V > 0] / len(ids_L)
        found = {"unigram entropy": float(-np.sum(share_V * np.log2(share_V)))}
        if len(ids_L) <= COMPRESSED:
            packed = lzma.compress(self.decode(ids_L).encode(), preset=9 | lzma.PRESET_EXTREME)
            found["lzma"] = 8 * len(packed) / len(ids_L)
        return {f"bits_per_{self.codec.unit}": found}
