"""Copy symbols that stand among noise."""

import dataclasses

import numpy as np

from seqjax.data._random import Generated
from seqjax.types import Count, Spec


@dataclasses.dataclass(kw_only=True)
class SelectiveCopy(Generated):
    """Selective copy: read symbols at random places among noise, then write the symbols alone, in order.

        length=10, count=4, symbols=8:

        tokens   8 3 8 8 0 7 8 8 7 8 9 3 0 7 7      8 is noise, 9 the separator
        scored   . . . . . . . . . . . x x x x

    What `copy` asks for, at places that differ between examples: a convolution with fixed filters cannot, a model
    has to choose by content what it keeps. Symbols are independent and uniform. Splits are drawn independently.

    `length`: of symbols and noise; train draws from `min_length` ... `length`, validation and test have exactly
    `length`. `min_length`: None is `length`. `count`: symbols in every example. `symbols`: distinct ones. `seed`: of
    the examples. `examples`: in validation and in test; train is endless.

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
            raise ValueError(f"min_length={least} is above length={self.length}: lower it.")
        if self.count > least:
            raise ValueError(f"count={self.count} symbols do not fit into {least} places: lower it.")
        self.spec = Spec(
            vocabulary=self.symbols + 2,
            length=self.length + 1 + self.count,
            splits=("train", "validation", "test"),
        )

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
