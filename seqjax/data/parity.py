"""The parity of bits."""

import dataclasses

from seqjax.data._tracking import Tracking


@dataclasses.dataclass(kw_only=True)
class Parity(Tracking):
    """Parity: read bits, then say whether the number of ones is odd.

        length=5:

        tokens   1 0 1 1 0 2 1      2 ends the word
        scored   . . . . . . x

    The state is the smallest possible: one bit of memory solves the task at any length, while a model that looks at
    all bits at once has to count them. Bits are independent and fair. Splits are drawn independently: if 2 ** `length`
    is small, validation repeats some words of train.

    `length`: number of bits, drawn from `min_length` ... `length` in train, exactly `length` in validation and test.
    `seed`: seed of the examples. `examples`: number of examples in validation and in test; train is endless.

    Hahn 2020, "Theoretical limitations of self-attention in neural sequence models", arXiv:1906.06755.
    """

    @property
    def symbols(self):
        """The number of symbols: 0 and 1."""
        return 2

    def answer(self, word_L):
        return word_L.sum(keepdims=True) % 2

    def baselines(self, split):
        return {"accuracy": {"guessing": 1 / 2}}


Source = Parity
