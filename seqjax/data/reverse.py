"""Write a sequence backwards."""

import dataclasses

import numpy as np

from seqjax.data._random import Strings
from seqjax.types import Spec


@dataclasses.dataclass(kw_only=True)
class Reverse(Strings):
    """Reverse: given a source of random symbols, write it from its last to its first, and end.

        length=4, symbols=8:

        source   3 0 7 1
        tokens   8 1 7 0 3 9      8 begins, 9 ends
        scored   . x x x x x

    The smallest task of two sequences. The symbols are independent and uniform, so nothing but the source helps, and
    all of it has to reach the decoder: through one state, or by looking it up. Splits are drawn independently: with
    few `symbols` ** `length` sequences, validation repeats some of train.

    `length`: symbols of the source; train draws from `min_length` ... `length`, validation and test have exactly
    `length`. `symbols`: distinct ones. `seed`: of the examples. `examples`: in validation and in test; train is
    endless.

    Reversal as a test of sequence transduction: Grefenstette et al. 2015, arXiv:1506.02516.
    """

    def __post_init__(self):
        super().__post_init__()
        self.spec = Spec(
            vocabulary=self.symbols + 2,
            length=self.length + 2,
            source_vocabulary=self.symbols,
            source_length=self.length,
            splits=("train", "validation", "test"),
        )

    def draw(self, random, split):
        source_S = self.string(random, split)
        begin, end = np.array([[self.symbols], [self.symbols + 1]], np.int32)
        tokens_L = np.concatenate([begin, source_S[::-1], end])
        return {"source": source_S, "tokens": tokens_L, "scored": np.arange(len(tokens_L)) > 0}

    def baselines(self, split):
        """Guessing every symbol, and ending where all examples of the split end."""
        right = self.length / self.symbols + 1
        return {"accuracy": {"guessing": right / (self.length + 1)}}


Source = Reverse
