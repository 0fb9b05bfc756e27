"""Text as token ids, and one long text cut into windows."""

import dataclasses
import itertools
import lzma
from collections.abc import Sequence
from typing import Literal

import numpy as np

from seqjax.data._random import generator
from seqjax.data._source import Source
from seqjax.types import Count, DataError, Spec

Tokens = Literal["character", "byte"]
COMPRESSED = 4_000_000  # tokens that are compressed at most, for a baseline


def encoded(text: str, encoding: str, where: str) -> bytes:
    """`text.encode(encoding)`, or a DataError that says where half a character stands."""
    try:
        return text.encode(encoding)
    except UnicodeEncodeError as error:
        point = ord(text[error.start])
        raise DataError(
            f"{where}: character {error.start} is the lone surrogate U+{point:04X}, half of a character: remove it."
        ) from error


class Bytes:
    """UTF-8 bytes as ids 0 ... 255: no text is unknown."""

    unit = "byte"
    size = 256

    def encode(self, text: str, where: str = "this text") -> np.ndarray:
        return np.frombuffer(encoded(text, "utf-8", where), np.uint8).astype(np.int32)

    def decode(self, ids: np.ndarray) -> str:
        # A window may begin or end inside a character.
        return np.asarray(ids, np.uint8).tobytes().decode(errors="replace")


class Alphabet:
    """The characters of a text, sorted, as ids; with `unknown`, one id more for all others, shown as U+FFFD."""

    unit = "character"

    def __init__(self, text: str, unknown: bool = False):
        self.points_V = np.unique(self._points(text, "this text"))
        self.unknown = len(self.points_V) if unknown else None
        self.shown_V = np.append(self.points_V, 0xFFFD) if unknown else self.points_V
        self.size = len(self.shown_V)

    def encode(self, text: str, where: str = "this text") -> np.ndarray:
        points_L = self._points(text, where)
        ids_L = np.searchsorted(self.points_V, points_L).astype(np.int32)
        strange_L = self.points_V[np.minimum(ids_L, len(self.points_V) - 1)] != points_L
        if strange_L.any():
            if self.unknown is None:
                first = int(np.argmax(strange_L))
                raise DataError(
                    f"{where}: character {first} is {text[first]!r} (U+{ord(text[first]):04X}), which is not among "
                    f"the {self.size} known characters: leave it out, or use data.tokens='byte'."
                )
            ids_L[strange_L] = self.unknown
        return ids_L

    def decode(self, ids: np.ndarray) -> str:
        return self.shown_V[np.asarray(ids)].astype("<u4").tobytes().decode("utf-32-le")

    def _points(self, text: str, where: str) -> np.ndarray:
        return np.frombuffer(encoded(text, "utf-32-le", where), "<u4")


def codec(tokens: Tokens, text: str, unknown: bool = False) -> Bytes | Alphabet:
    """What turns text into ids and back; `text` is where an alphabet is taken from."""
    return Bytes() if tokens == "byte" else Alphabet(text, unknown)


@dataclasses.dataclass(kw_only=True)
class Textual(Source):
    """A source whose tokens may be text: then it has a `codec`."""

    codec = None  # no field: the subclass makes it from its data

    def encode(self, text: str) -> np.ndarray:
        return super().encode(text) if self.codec is None else self.codec.encode(text)

    def decode(self, ids: np.ndarray) -> str:
        return super().decode(ids) if self.codec is None else self.codec.decode(ids)

    def meaning(self) -> str | None:
        return None if self.codec is None else self.codec.decode(np.arange(self.codec.size))


@dataclasses.dataclass(kw_only=True)
class TextWindows(Textual):
    """One long text in contiguous splits, cut into windows of `length + 1` tokens: `length` predictions each.

        train         t o b e o r n o t      endless; window i begins at a random place, a pure function of i
                        [o b e o]
                            [o r n o]
        validation    t h a t i s            finite; neighbours share one token, so every token but the very
                     [t h a t]               first is predicted exactly once; the last window may be shorter
                            [t i s]

    Where the text is several documents, `reset` marks the first token of each.

    `length`: predictions per window. `tokens`: characters, out of all that occur in the whole text (every split),
    or UTF-8 bytes. Metrics are in bits per character or per byte.

    Raises:
      DataError: a split too short to predict anything from, train shorter than one window.
    """

    length: Count = 256
    tokens: Tokens = "character"

    def cut(self, text: str, ends: dict[str, int], where: str, begins: Sequence[int] = ()):
        """Takes the text apart: split -> the character before which it ends, in the order of the text.

        `begins`: the characters with which documents begin, if they are several.
        """
        self.codec = codec(self.tokens, text)
        self._streams, begin = {}, 0
        for split, end in ends.items():
            edges = [begin, *(b for b in begins if begin < b < end), end]
            parts = [self.codec.encode(text[a:b], where) for a, b in itertools.pairwise(edges)]
            ids_L = np.concatenate(parts)
            least = self.length + 1 if split == "train" else 2
            if len(ids_L) < least:
                fix = "lower data.length" if split == "train" else "give this split a larger share"
                raise DataError(
                    f"{where}: split {split!r} has {len(ids_L)} {self.codec.unit}s out of a text of {len(text)} "
                    f"characters, wanted at least {least}: use a longer text, or {fix}."
                )
            self._streams[split], begin = {"tokens": ids_L}, end
            if len(begins) > 1:
                first_L = np.zeros(len(ids_L), bool)
                first_L[np.cumsum([0, *map(len, parts[:-1])])] = True
                self._streams[split]["reset"] = first_L
            for array in self._streams[split].values():
                array.flags.writeable = False  # examples are slices of it
        self.spec = Spec(vocabulary=self.codec.size, length=self.length + 1, unit=self.codec.unit, splits=tuple(ends))

    def size(self, split):
        return None if split == "train" else -(-(len(self._streams[split]["tokens"]) - 1) // self.length)

    def example(self, split, index):
        stream, size = self._streams[split], self.size(split)
        if size is None:
            begin = generator(0, split, index).integers(len(stream["tokens"]) - self.length)
        elif 0 <= index < size:
            begin = index * self.length
        else:
            raise IndexError(f"{split} has windows 0 ... {size - 1}, got {index}.")
        return {key: array[begin : begin + self.length + 1] for key, array in stream.items()}

    def stream(self, split):
        return dict(self._streams[split])

    def lengths(self, split):
        # Every window but the last is full.
        length_B = np.full(self.size(split), self.length + 1)
        length_B[-1] = len(self._streams[split]["tokens"]) - (len(length_B) - 1) * self.length
        return length_B

    def baselines(self, split):
        """Bits per token of the split's own token frequencies, and of `xz -9e` on its UTF-8 bytes alone.

        It takes seconds per million: what has more than four million tokens is not compressed.
        """
        ids_L = self._streams[split]["tokens"]
        share_V = np.unique_counts(ids_L).counts / len(ids_L)
        found = {"unigram entropy": float(-np.sum(share_V * np.log2(share_V)))}
        if len(ids_L) <= COMPRESSED:
            packed = lzma.compress(self.decode(ids_L).encode(), preset=9 | lzma.PRESET_EXTREME)
            found["lzma"] = 8 * len(packed) / len(ids_L)
        return {f"bits_per_{self.codec.unit}": found}
