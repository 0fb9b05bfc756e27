"""Write a sequence backwards."""

import dataclasses

import numpy as np

from seqjax import spec
from seqjax.data._random import SPLITS, Strings


@dataclasses.dataclass(kw_only=True)
class Reverse(Strings):
    """Reverse: read a source of random symbols, then write them in reverse order and end.

        length=4, symbols=8:

        source   3 0 7 1
        tokens   8 1 7 0 3 9      8 begins, 9 ends
        scored   . x x x x x

    This is the smallest task with two sequences. The symbols are independent and uniform, so only the source helps,
    and all of it must reach the decoder: through one state, or by attention. Splits are drawn independently: if
    `symbols` ** `length` is small, validation repeats some sequences of train.

    `length`: number of symbols in the source, drawn from `min_length` ... `length` in train, exactly `length` in
    validation and test. `symbols`: number of distinct symbols. `seed`: seed of the examples. `examples`: number of
    examples in validation and in test; train is endless.

    Reversal as a test of sequence transduction: Grefenstette et al. 2015, arXiv:1506.02516.
    """

    def __post_init__(self):
        super().__post_init__()
        self.spec = spec.tokens(
            self.symbols + 2,
            self.length + 2,
            source=(self.symbols, self.length),
            scored=True,
            end=self.symbols + 1,
            splits=SPLITS,
        )

    def draw(self, random, split):
        source_S = self.string(random, split)
        begin, end = np.array([[self.symbols], [self.symbols + 1]], np.int32)
        tokens_L = np.concatenate([begin, source_S[::-1], end])
        return {"source": source_S, "tokens": tokens_L, "scored": np.arange(len(tokens_L)) > 0}

    def baselines(self, split):
        """The accuracy of guessing every symbol and ending where all examples of the split end."""
        right = self.length / self.symbols + 1
        return {"accuracy": {"guessing": right / (self.length + 1)}}


Source = Reverse
