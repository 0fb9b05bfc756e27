"""Words whose symbols update a state; a model predicts the final state."""

import dataclasses

import numpy as np

from seqjax import spec
from seqjax.data._random import SPLITS, Generated
from seqjax.types import Count


@dataclasses.dataclass(kw_only=True)
class Tracking(Generated):
    """Words of `min_length` ... `length` symbols in train, of exactly `length` in validation and test.

    Symbols and the tokens of an answer have the ids 0 ... symbols - 1; the id `symbols` ends a word. Only the final
    state is predicted: if a model also read the answer to each prefix, it would need only that and the next symbol.
    """

    length: Count = 32
    min_length: Count = 1

    def __post_init__(self):
        super().__post_init__()
        if self.min_length > self.length:
            raise ValueError(f"min_length={self.min_length} is above length={self.length}: lower min_length.")
        self.spec = spec.tokens(
            self.symbols + 1,
            self.length + 1 + len(self.answer(np.zeros(1, np.int32))),
            scored=True,
            splits=SPLITS,
        )

    @property
    def symbols(self) -> int:
        """The number of distinct symbols."""
        raise NotImplementedError

    def word(self, random: np.random.Generator, count: int) -> np.ndarray:
        """Draws `count` symbols, independent and uniform."""
        return random.integers(self.symbols, size=count)

    def answer(self, word_L: np.ndarray) -> np.ndarray:
        """The state after a word, in one token or several."""
        raise NotImplementedError

    def draw(self, random, split):
        count = random.integers(self.min_length, self.length + 1) if split == "train" else self.length
        word_L = self.word(random, count)
        tokens_L = np.concatenate([word_L, [self.symbols], self.answer(word_L)]).astype(np.int32)
        return {"tokens": tokens_L, "scored": np.arange(len(tokens_L)) > count}
