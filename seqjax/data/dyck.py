"""Balanced brackets of several kinds."""

import dataclasses

import numpy as np

from seqjax import spec
from seqjax.data._random import SPLITS, Generated
from seqjax.types import Count


@dataclasses.dataclass(kw_only=True)
class Dyck(Generated):
    """Dyck: read brackets of `kinds` kinds, nested up to `depth`, and predict each closing one.

        length=8, kinds=2, written as ( [ (ids 0, 1) and ) ] (ids 2, 3):

        tokens   ( [ ] [ ( ) ] )
        scored   . . x . . x x x

    The last bracket that is still open determines which bracket closes: this needs a stack, here of bounded depth. A
    bracket opens or closes with equal probability where both are possible; at the end all brackets are closed. Splits
    are drawn independently: if strings are short, validation repeats some strings of train.

    `length`: number of brackets, even; drawn from the even numbers in `min_length` ... `length` in train, exactly
    `length` in validation and test. `kinds`: number of kinds of brackets. `depth`: most brackets that are open at once.
    `seed`: seed of the examples. `examples`: number of examples in validation and in test; train is endless.

    Hewitt et al. 2020, "RNNs can generate bounded hierarchical languages with optimal memory", arXiv:2010.07515.
    """

    length: Count = 32
    min_length: Count = 2
    kinds: Count = 8
    depth: Count = 4

    def __post_init__(self):
        super().__post_init__()
        if self.length % 2 or self.min_length % 2:
            odd = "length" if self.length % 2 else "min_length"
            raise ValueError(f"{odd}={getattr(self, odd)} is odd, but every bracket is closed: choose an even number.")
        if self.min_length > self.length:
            raise ValueError(f"min_length={self.min_length} is above length={self.length}: lower min_length.")
        self.spec = spec.tokens(2 * self.kinds, self.length, scored=True, splits=SPLITS)

    def draw(self, random, split):
        pairs = random.integers(self.min_length // 2, self.length // 2 + 1) if split == "train" else self.length // 2
        coins = random.integers(2, size=2 * pairs)
        kinds = random.integers(self.kinds, size=2 * pairs)
        tokens, open_now = [], []
        for place in range(2 * pairs):
            full = len(open_now) == min(self.depth, 2 * pairs - place)
            if open_now and (full or coins[place]):
                tokens.append(self.kinds + open_now.pop())
            else:
                open_now.append(kinds[place])
                tokens.append(kinds[place])
        tokens_L = np.array(tokens, np.int32)
        return {"tokens": tokens_L, "scored": tokens_L >= self.kinds}

    def baselines(self, split):
        """The accuracy of guessing, and of closing the kind that was opened last, which needs no stack."""
        right, total = 0, 0
        for index in range(self.examples):
            newest = 0
            for token in self.example(split, index)["tokens"]:
                if token < self.kinds:
                    newest = token
                else:
                    right, total = right + (token == self.kinds + newest), total + 1
        return {"accuracy": {"guessing": 1 / self.kinds, "last that was opened": float(right / total)}}


Source = Dyck
