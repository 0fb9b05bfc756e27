"""The tokenizers of the two sides of a pair of texts."""

import dataclasses

import numpy as np

from seqjax.tokenizers._base import Tokenizer


@dataclasses.dataclass(frozen=True)
class Side:
    """The ids of a text on one side, with the ids that begin and end it: those of the tokenizer, or two more."""

    codec: Tokenizer
    begins: bool  # whether an id begins the text

    @property
    def size(self) -> int:
        """The number of ids."""
        return self.codec.size if self.codec.special else self.codec.size + 2

    @property
    def begin(self) -> int:
        return self.codec.special.get("bos", self.codec.size)

    @property
    def end(self) -> int:
        return self.codec.special.get("eos", self.codec.size + 1)

    def encode(self, text: str, where: str = "this text") -> np.ndarray:
        """The ids of a text, from begin to end."""
        return self.framed(self.codec.encode(text, where))

    def framed(self, ids_L) -> np.ndarray:
        """The ids of a text between begin and end."""
        return np.concatenate([[self.begin] * self.begins, ids_L, [self.end]]).astype(np.int32)

    def decode(self, ids) -> str:
        """The text of ids; those that begin and end it are no text."""
        ids = np.asarray(ids)
        return self.codec.decode(ids[(ids != self.begin) & (ids != self.end)])


@dataclasses.dataclass(kw_only=True)
class Sides(Tokenizer):
    """The tokenizers of a source and of the tokens that answer it, trained and saved as one.

    They are one tokenizer, trained on both sides, if `source` is `tokens`. As a tokenizer it is that of the tokens.
    Alphabets are saved, too.
    """

    source: Tokenizer
    tokens: Tokenizer

    @property
    def unit(self):
        return self.tokens.unit

    @property
    def sides(self) -> dict[str, Side]:
        """Name of the field -> its side."""
        return {"source": Side(self.source, begins=False), "tokens": Side(self.tokens, begins=True)}

    @property
    def about(self):
        made_of = {"tokens": self.tokens.about} | ({} if self.shared else {"source": self.source.about})
        return {"class": f"{type(self).__module__}.{type(self).__qualname__}", **made_of}

    @property
    def shared(self) -> bool:
        """Whether both sides have one tokenizer."""
        return self.source is self.tokens

    def fit(self, texts):
        """From pairs of texts: (source, target)."""
        sources, targets = zip(*texts, strict=True)
        if self.shared:
            return {"tokens": self.tokens.fit(sources + targets)}
        return {"tokens": self.tokens.fit(targets), "source": self.source.fit(sources)}

    def open(self, state):
        self.tokens.open(state["tokens"])
        if not self.shared:
            self.source.open(state["source"])
        self.size = self.sides["tokens"].size

    def encode(self, text, where="this text"):
        return self.sides["tokens"].encode(text, where)

    def align(self, text, where="this text"):
        return self.tokens.align(text, where)

    def text(self, ids):
        return self.sides["tokens"].decode(ids)
