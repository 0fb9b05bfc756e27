"""Copy a sequence of symbols."""

import dataclasses

import numpy as np

from seqjax import spec
from seqjax.data._random import SPLITS, Strings


@dataclasses.dataclass(kw_only=True)
class Copy(Strings):
    """Copy: read random symbols, then, after a separator, write them again.

        length=4, symbols=8:

        tokens   3 0 7 7 8 3 0 7 7      8 is the separator
        scored   . . . . . x x x x

    The task measures how much a state can hold. The symbols are independent and uniform, so only memory helps: a model
    that does not look back has accuracy 1 / `symbols`. Splits are drawn independently: if `symbols` ** `length` is
    small, validation repeats some sequences of train.

    `length`: number of symbols to copy, drawn from `min_length` ... `length` in train, exactly `length` in validation
    and test. `symbols`: number of distinct symbols. `seed`: seed of the examples. `examples`: number of examples in
    validation and in test; train is endless.

    The task of Graves et al. 2014, "Neural Turing machines", arXiv:1410.5401.
    """

    def __post_init__(self):
        super().__post_init__()
        self.spec = spec.tokens(self.symbols + 1, 2 * self.length + 1, scored=True, splits=SPLITS)

    def draw(self, random, split):
        symbols = self.string(random, split)
        tokens_L = np.concatenate([symbols, np.array([self.symbols], np.int32), symbols])
        return {"tokens": tokens_L, "scored": np.arange(len(tokens_L)) > len(symbols)}

    def baselines(self, split):
        return {"accuracy": {"guessing": 1 / self.symbols}}


Source = Copy
