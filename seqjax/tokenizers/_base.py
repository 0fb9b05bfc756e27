"""The contract of a tokenizer. This room uses only numpy, never JAX."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from seqjax.types import Checked, ConfigError, DataError, fields_of

SPECIAL = {"pad": 0, "unk": 1, "bos": 2, "eos": 3, "mask": 4, "sep": 5}


class Encoding(NamedTuple):
    """Token ids, and what each token stands for.

    spans_L2: begin and end of each token in the text, in characters: `text[begin:end]`. A token that holds only a part
      of a character has the span of the whole character.
    words_L: the index of each token's word; None if the text was not given word by word.
    """

    ids_L: np.ndarray
    spans_L2: np.ndarray
    words_L: np.ndarray | None = None


@dataclasses.dataclass(kw_only=True)
class Tokenizer(Checked):
    """Turns text into ids and back. It is trained once, on the training split, and then never changes.

        tokenizer = Bpe(vocabulary=4096).train(texts)       or       Bpe(vocabulary=4096).load(content)
        tokenizer.encode("to be")          int32 ids
        tokenizer.align("to be")           ids, and the characters of the text that each token stands for
        tokenizer.words(["to", "be"])      the same for words, and the word of each token
        tokenizer.decode(ids)              text
        tokenizer.content, tokenizer.name  what is saved: the bytes of one file, and their sha256

    The options are the fields of the dataclass. A subclass writes `fit`, `open`, `align` and `text`. The ids of the
    special tokens are fixed (`special`), and no text has them: whoever writes "<mask>" gets the characters < m a s k >.
    """

    unit = "token"  # not a field, nor are those below: what one token is, in the names of metrics
    learnt = True  # whether it is trained on the training split only, and saved with a run
    exact = False  # whether decode(encode(text)) is the text
    special = SPECIAL
    gap = ""  # what stands between two words of a text
    size = 0  # the number of ids
    content = b""

    # What a subclass writes.

    def fit(self, texts: Iterable[str]):
        """The state, a JSON tree, that texts give: the same texts give the same state."""
        raise NotImplementedError

    def open(self, state) -> None:
        """Takes a state, and sets `size`."""
        raise NotImplementedError

    def align(self, text: str, where: str = "this text") -> Encoding:
        """The ids of a text, and their spans. Raises DataError, which begins with `where`: it cannot be encoded."""
        raise NotImplementedError

    def text(self, ids: np.ndarray) -> str:
        """The text of ids, all of which are below `size`."""
        raise NotImplementedError

    # What follows from it.

    def encode(self, text: str, where: str = "this text") -> np.ndarray:
        """The int32 ids of a text. Raises DataError: it cannot be encoded."""
        return self.align(text, where).ids_L

    def encode_all(self, texts: Sequence[str], wheres: Sequence[str]) -> list[np.ndarray]:
        """The ids of many texts."""
        return [self.encode(text, where) for text, where in zip(texts, wheres, strict=True)]

    def words(self, words: Sequence[str], where: str = "these words") -> Encoding:
        """The tokens of given words; spans are those in the word. Each word has one token or more.

        Raises:
          DataError: a word is empty, or cannot be encoded.
        """
        ids, spans, of = [], [], []
        for i, word in enumerate(words):
            if not word:
                raise DataError(f"{where}: word {i} is empty: fill it in or leave it out.")
            gap = self.gap if i else ""
            found = self.align(gap + word, where)
            if not len(found.ids_L):  # only white space, which some tokenizers do not see
                found = Encoding(np.array([self.unknown], np.int32), np.array([[0, len(word)]]))
            ids.append(found.ids_L)
            spans.append(np.maximum(found.spans_L2 - len(gap), 0))
            of.append(np.full(len(found.ids_L), i))
        none = [np.zeros(0, np.int32)], [np.zeros((0, 2), np.int64)], [np.zeros(0, np.int64)]
        return Encoding(*map(np.concatenate, (ids, spans, of) if ids else none))

    def decode(self, ids: np.ndarray) -> str:
        """The text of ids. Raises DataError: an id is not below `size`."""
        ids = np.asarray(ids)
        if ids.size and (ids.min() < 0 or ids.max() >= self.size):
            strange = ids[(ids < 0) | (ids >= self.size)].flat[0]
            raise DataError(f"id {strange} is not a token: this tokenizer has the ids 0 to {self.size - 1}.")
        return self.text(ids)

    @property
    def unknown(self) -> int | None:
        """The id of everything that has no id of its own; None: there is none."""
        return self.special.get("unk")

    @property
    def name(self) -> str:
        """What distinguishes this tokenizer from every other: the sha256 of its file, its first 16 digits."""
        return named(self.content)

    @property
    def about(self) -> dict:
        """The class and the options, as in the file."""
        options = {key: getattr(self, key) for key in fields_of(type(self))}
        return {"class": f"{type(self).__module__}.{type(self).__qualname__}", **options}

    def train(self, texts: Iterable[str], closed: bool = False) -> "Tokenizer":
        """Trains on texts; returns itself. `closed`: no other text will come, so none needs the id for the unknown.

        Raises:
          DataError: the texts do not have what the options ask for.
          ConfigError: a package is missing.
        """
        state = self.fit(texts)
        self.open(state)
        self.content = json.dumps({"format": 1, "tokenizer": self.about, "state": state}, sort_keys=True).encode()
        return self

    def load(self, content: bytes, where: str = "the tokenizer file") -> "Tokenizer":
        """Takes the tokenizer that a file holds; returns itself.

        Raises:
          ConfigError: the file is none, or holds a tokenizer of another class or with other options.
        """
        there = described(content, where)
        if there != self.about:
            raise ConfigError(
                f"{where} holds {_shown(there)}, but the config asks for {_shown(self.about)}: one model reads one "
                "tokenizer, so set data.tokenizer to that of the file, or train another run."
            )
        self.open(json.loads(content)["state"])
        self.content = content
        return self


def named(content: bytes) -> str:
    """The name of a tokenizer file."""
    return hashlib.sha256(content).hexdigest()[:16]


def described(content: bytes, where: str) -> dict:
    """The class and the options of the tokenizer in a file. Raises ConfigError: it is no such file."""
    try:
        tree = json.loads(content)
        if tree["format"] != 1 or "state" not in tree:
            raise KeyError("format")
        return tree["tokenizer"]
    except (ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{where} is not a tokenizer of seqjax: restore it from a copy.") from error


def _shown(about: dict) -> str:
    options = ", ".join(f"{key}={value!r}" for key, value in about.items() if key != "class")
    return f"{about.get('class')}({options})"


def encoded(text: str, encoding: str, where: str) -> bytes:
    """`text.encode(encoding)`; a lone surrogate is a DataError that names its place."""
    try:
        return text.encode(encoding)
    except UnicodeEncodeError as error:
        point = ord(text[error.start])
        raise DataError(
            f"{where}: character {error.start} is the lone surrogate U+{point:04X}, half of a character: remove it."
        ) from error


def check_size(found: int, wanted: int) -> None:
    """Raises DataError if training found another number of tokens than `vocabulary`."""
    if found != wanted:
        more = "has only enough text for" if found < wanted else "has so many characters that it needs"
        raise DataError(
            f"data.tokenizer.vocabulary={wanted:,}, but the training split {more} {found:,} tokens: set it to {found}, "
            + ("or give more text." if found < wanted else "or higher.")
        )
