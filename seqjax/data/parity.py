"""The parity of bits."""

import dataclasses

from seqjax.data._tracking import Tracking


@dataclasses.dataclass(kw_only=True)
class Parity(Tracking):
    """Parity: read bits, then say whether there has been an odd number of ones.

        length=5:

        tokens   1 0 1 1 0 2 1      2 ends
        scored   . . . . . . x

    The smallest state that every symbol may turn: one bit of memory solves it at any length, while a model that looks
    at all bits at once has to count them. Bits are independent and fair. Splits are drawn independently: of the
    2 ** `length` words, few at small lengths, validation repeats some of train.

    `length`: bits; train draws from `min_length` ... `length`, validation and test have exactly `length`.
    `seed`: of the examples. `examples`: in validation and in test; train is endless.

    Hahn 2020, "Theoretical limitations of self-attention in neural sequence models", arXiv:1906.06755.
    """

    @property
    def symbols(self):
        """0 and 1."""
        return 2

    def answer(self, word_L):
        return word_L.sum(keepdims=True) % 2

    def baselines(self, split):
        return {"accuracy": {"guessing": 1 / 2}}


Source = Parity
