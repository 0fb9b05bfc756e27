"""Copy a sequence of symbols."""

import dataclasses

import numpy as np

from seqjax.data._random import Generated
from seqjax.types import Count, Spec


@dataclasses.dataclass(kw_only=True)
class Copy(Generated):
    """Copy: read random symbols, then, after a separator, write them again.

        length=4, symbols=8:

        tokens   3 0 7 7 8 3 0 7 7      8 is the separator
        scored   . . . . . x x x x

    How much can a state hold? The symbols are independent and uniform, so nothing but memory helps: a model that
    does not look back is right once in `symbols`. Splits are drawn independently: with few `symbols` ** `length`
    sequences, validation repeats some of train.

    `length`: symbols to copy; train draws from `min_length` ... `length`, validation and test have exactly `length`.
    `symbols`: distinct ones. `seed`: of the examples. `examples`: in validation and in test; train is endless.

    The task of Graves et al. 2014, "Neural Turing machines", arXiv:1410.5401.
    """

    length: Count = 16
    min_length: Count = 1
    symbols: Count = 8

    def __post_init__(self):
        super().__post_init__()
        if self.min_length > self.length:
            raise ValueError(f"min_length={self.min_length} is above length={self.length}: lower it.")
        self.spec = Spec(
            vocabulary=self.symbols + 1, length=2 * self.length + 1, splits=("train", "validation", "test")
        )

    def draw(self, random, split):
        count = random.integers(self.min_length, self.length + 1) if split == "train" else self.length
        symbols = random.integers(self.symbols, size=count, dtype=np.int32)
        tokens_L = np.concatenate([symbols, np.array([self.symbols], np.int32), symbols])
        return {"tokens": tokens_L, "scored": np.arange(len(tokens_L)) > count}

    def baselines(self, split):
        return {"accuracy": {"guessing": 1 / self.symbols}}


Source = Copy
