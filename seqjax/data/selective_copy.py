"""Copy symbols that stand among noise."""

import dataclasses

import numpy as np

from seqjax import spec
from seqjax.data._random import SPLITS, Generated
from seqjax.types import Count


@dataclasses.dataclass(kw_only=True)
class SelectiveCopy(Generated):
    """Selective copy: read symbols at random places among noise, then write only the symbols, in order.

        length=10, count=4, symbols=8:

        tokens   8 3 8 8 0 7 8 8 7 8 9 3 0 7 7      8 is noise, 9 the separator
        scored   . . . . . . . . . . . x x x x

    Unlike in `copy`, the places of the symbols differ between examples: a convolution with fixed filters cannot solve
    this, as a model must choose by content what to keep. Symbols are independent and uniform. Splits are drawn
    independently.

    `length`: number of symbols and noise tokens, drawn from `min_length` ... `length` in train, exactly `length` in
    validation and test. `min_length`: None means `length`. `count`: number of symbols in every example. `symbols`:
    number of distinct symbols. `seed`: seed of the examples. `examples`: number of examples in validation and in test;
    train is endless.

    Gu and Dao 2023, "Mamba: linear-time sequence modeling with selective state spaces", arXiv:2312.00752.
    """

    length: Count = 32
    min_length: Count | None = None
    count: Count = 8
    symbols: Count = 8

    def __post_init__(self):
        super().__post_init__()
        least = self.min_length or self.length
        if least > self.length:
            raise ValueError(f"min_length={least} is above length={self.length}: lower min_length.")
        if self.count > least:
            raise ValueError(f"count={self.count} symbols do not fit into {least} places: lower count.")
        self.spec = spec.tokens(self.symbols + 2, self.length + 1 + self.count, scored=True, splits=SPLITS)

    def draw(self, random, split):
        least = self.min_length or self.length
        length = random.integers(least, self.length + 1) if split == "train" else self.length
        symbols = random.integers(self.symbols, size=self.count)
        tokens_L = np.full(length, self.symbols)
        tokens_L[np.sort(random.choice(length, self.count, replace=False))] = symbols
        tokens_L = np.concatenate([tokens_L, [self.symbols + 1], symbols]).astype(np.int32)
        return {"tokens": tokens_L, "scored": np.arange(len(tokens_L)) > length}

    def baselines(self, split):
        return {"accuracy": {"guessing": 1 / self.symbols}}


Source = SelectiveCopy
