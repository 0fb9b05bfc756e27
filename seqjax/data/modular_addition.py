"""Sums modulo a number."""

import dataclasses
from typing import Annotated

from seqjax.data._tracking import Tracking
from seqjax.types import Range


@dataclasses.dataclass(kw_only=True)
class ModularAddition(Tracking):
    """Modular addition: read numbers, then say their sum modulo `modulus`.

        length=5, modulus=5:

        tokens   3 4 0 1 2 5 0      5 ends the word
        scored   . . . . . . x

    The sums form a cyclic group: the order of the numbers does not matter, so a model may count them instead of
    updating a state. Numbers are independent and uniform. Splits are drawn independently: if `modulus` ** `length` is
    small, validation repeats some words of train.

    `length`: how many numbers, drawn from `min_length` ... `length` in train, exactly `length` in validation and test.
    `modulus`: modulus of the sum. `seed`: seed of the examples. `examples`: number of examples in validation and in
    test; train is endless.

    Deletang et al. 2022, "Neural networks and the Chomsky hierarchy", arXiv:2207.02098 (modular arithmetic).
    """

    modulus: Annotated[int, Range(least=2, below=2**31)] = 5

    @property
    def symbols(self):
        """The number of symbols: 0 ... modulus - 1."""
        return self.modulus

    def answer(self, word_L):
        return word_L.sum(keepdims=True) % self.modulus

    def baselines(self, split):
        return {"accuracy": {"guessing": 1 / self.modulus}}


Source = ModularAddition
