"""Text that becomes token ids: the tokenizer of a source, and what it makes of the text."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated

import numpy as np

from seqjax import lookup, spec
from seqjax.data import _files
from seqjax.data._source import Source
from seqjax.tokenizers import Tokenizer
from seqjax.tokenizers._sides import Side, Sides
from seqjax.tokenizers.character import Character
from seqjax.types import DataError, Injected, Part

SPELT = ("character", "byte")  # units of which a text has a number that no tokenizer chooses
WIDEST = np.iinfo(np.uint16).max  # characters that one token may stand for
SPAN = spec.Field("real")  # the field `span`: how many characters of the text each token adds to those before it

Tokenized = Annotated[Callable | str, Part("seqjax.tokenizers", "Tokenizer")]


def made(tokenizer: Callable | str) -> Tokenizer:
    """A tokenizer that is not trained yet, from its class, or from its name, as in a config."""
    return (lookup.find(tokenizer, "seqjax.tokenizers", "Tokenizer") if isinstance(tokenizer, str) else tokenizer)()


def widths(spans_L2: np.ndarray, where: str) -> np.ndarray:
    """How many characters each token adds, with the white space before it, from the spans of a text: (L,), uint16."""
    width_L = np.diff(spans_L2[:, 1], prepend=0)
    if (width_L > WIDEST).any():
        raise DataError(f"{where}: one token stands for {width_L.max():,} characters, wanted at most {WIDEST:,}.")
    return width_L.astype(np.uint16)


def counts(ids_L: np.ndarray, size: int) -> np.ndarray:
    """How often each id occurs: (V,)."""
    return sum((np.bincount(part, minlength=size) for part in _parts([ids_L])), np.zeros(size, int))


def unlearnt(codec: Tokenizer, ids: dict, texts: dict | None = None) -> Iterator[str]:
    """Yields a sentence per split with tokens that train lacks; `ids` and `texts`: split -> those of its examples."""
    known_V = _occurring(ids["train"], codec.size)
    for split in [split for split in ids if split != "train"]:
        strange_V = _occurring(ids[split], codec.size) & ~known_V
        if not strange_V.any():
            continue
        tokens, of = sum(np.count_nonzero(strange_V[part]) for part in _parts(ids[split])), sum(map(len, ids[split]))
        distinct = np.count_nonzero(strange_V)
        if isinstance(codec, Character) and codec.unknown is not None:  # they share one id
            distinct = len(np.setdiff1d(Character().train(texts[split]).points_V, codec.points_V))
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


@dataclasses.dataclass
class Measure:
    """What a tokenizer makes of a text, added up over its parts."""

    tokens: int = 0
    bytes: int = 0
    words: int = 0  # what stands between white space
    unknown: int = 0  # tokens

    def add(self, codec: Tokenizer, text: str, ids_L: np.ndarray) -> None:
        """Counts one more part of the text."""
        self.tokens += len(ids_L)
        self.bytes += len(text.encode())
        self.words += len(text.split())
        self.unknown += int(np.count_nonzero(ids_L == codec.unknown)) if codec.unknown is not None else 0

    @classmethod
    def of(cls, codec: Tokenizer, texts: Iterable[str], ids: Iterable[np.ndarray]) -> "Measure":
        """That of many texts."""
        found = cls()
        for text, ids_L in zip(texts, ids, strict=True):
            found.add(codec, text, ids_L)
        return found

    def rates(self) -> dict[str, float]:
        """Tokens per word, bytes per token, and the share of tokens that are unknown."""
        return {
            "tokens_per_word": self.tokens / max(self.words, 1),
            "bytes_per_token": self.bytes / max(self.tokens, 1),
            "unknown": self.unknown / max(self.tokens, 1),
        }


@dataclasses.dataclass(kw_only=True)
class Textual(Source):
    """A source whose tokens may be text: then it has a `codec`, which `learn` makes.

    `saved`: the tokenizer file of a run, which is read in place of training a tokenizer.
    """

    saved: Annotated[bytes | None, Injected] = dataclasses.field(default=None, repr=False)

    codec = None  # not a field, nor is the next
    measured = {}  # split -> what a learnt tokenizer makes of it, see `Measure.rates`

    def learn(self, tokenizer: Callable | str, train: Callable, every: Callable | None = None) -> None:
        """Makes the codec: the one that a run saved, or one that is trained.

        Args:
          tokenizer: its class, or its name.
          train: () -> the texts of the training split.
          every: () -> the texts of all splits, if no other text will come: they decide on the alphabet.

        Raises:
          ConfigError: the saved one is another tokenizer; a package is missing.
          DataError: the texts do not have what its options ask for.
        """
        codec = made(tokenizer)
        if not codec.learnt:
            self.codec = codec.train((every or train)(), closed=every is not None)
        elif self.saved is not None:
            self.codec = codec.load(self.saved, "the tokenizer file of the run")
        else:
            self.codec = codec.train(train())

    def tell(self, measures: dict[str, Measure]) -> None:
        """Notes what a learnt tokenizer makes of each split."""
        if not self.codec.learnt:
            return
        self.measured = {split: measure.rates() for split, measure in measures.items()}
        said = "; ".join(
            f"{split} has {m['tokens_per_word']:.2f} tokens per word, {m['bytes_per_token']:.2f} bytes per token, "
            f"{m['unknown']:.2%} unknown"
            for split, m in self.measured.items()
        )
        self.notes += (f"tokenizer {self.codec.name}, {self.codec.size:,} ids: {said}",)

    def encode(self, text, field="tokens"):
        return super().encode(text, field) if self.codec is None else self._side(field).encode(text)

    def decode(self, ids, field="tokens"):
        return super().decode(ids, field) if self.codec is None else self._side(field).decode(ids)

    def _side(self, field: str) -> Tokenizer | Side:
        """What turns the text of a field into ids and back."""
        return self.codec.sides[field] if isinstance(self.codec, Sides) else self.codec

    def meaning(self) -> str | None:
        if self.codec is None:
            return None
        return self.codec.name if self.codec.learnt else self.codec.decode(np.arange(self.codec.size))
