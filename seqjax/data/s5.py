"""The word problem of the symmetric group."""

import dataclasses
import functools
import itertools
from typing import Annotated, Literal

import numpy as np

from seqjax.data._tracking import Tracking
from seqjax.types import Range


@dataclasses.dataclass(kw_only=True)
class Symmetric(Tracking):
    """Symmetric group: read permutations of `degree` things, then say which one they make together.

        length=4, degree=3, ids 0 ... 5 for the orders 012 021 102 120 201 210:

        tokens   1 3 3 1 6 3      6 ends; 3: thing i goes to x[3](x[2](x[1](x[0](i))))
        scored   . . . . . x

    The order matters, so nothing can be counted: a state has to be moved symbol by symbol. From degree 5 on no circuit
    of constant depth does it for all lengths, unless TC0 = NC1 (Barrington 1989): attention and linear recurrences
    with diagonal transitions need more layers for longer words. Symbols are independent and uniform. Splits are drawn
    independently: where there are few words, validation repeats some of train.

    `length`: permutations; train draws from `min_length` ... `length`, validation and test have exactly `length`.
    `degree`: how many things are permuted. `generators`: words are drawn from "all" permutations, or from "two" that
    make all others: the exchange of the first two things, and the cycle of all. `seed`: of the examples. `examples`:
    in validation and in test; train is endless.

    Merrill et al. 2024, "The illusion of state in state-space models", arXiv:2404.08819.
    """

    degree: Annotated[int, Range(least=3, most=6)] = 5
    generators: Literal["all", "two"] = "all"

    @property
    def symbols(self):
        """degree! of them, in lexicographic order; 0 leaves all where it is."""
        return len(permutations(self.degree))

    def word(self, random, count):
        if self.generators == "all":
            return super().word(random, count)
        exchange = (1, 0, *range(2, self.degree))
        cycle = (*range(1, self.degree), 0)
        ids = [permutations(self.degree)[p] for p in (exchange, cycle)]
        return np.array(ids)[random.integers(2, size=count)]

    def answer(self, word_L):
        table, state = products(self.degree), 0
        for symbol in word_L:
            state = table[state, symbol]
        return np.array([state])

    def baselines(self, split):
        """Giving every word the same answer."""
        answers = [self.example(split, index)["tokens"][-1] for index in range(self.examples)]
        counts = np.unique_counts(answers).counts
        return {"accuracy": {"most frequent answer": float(counts.max() / self.examples)}}


@functools.cache
def permutations(size: int) -> dict[tuple[int, ...], int]:
    """Where each thing goes -> id."""
    return {p: i for i, p in enumerate(itertools.permutations(range(size)))}


@functools.cache
def products(size: int) -> np.ndarray:
    """[p, q] -> id of p and then q."""
    orders = np.array(list(permutations(size)))
    both = orders[np.arange(len(orders))[None, :, None], orders[:, None, :]]  # q(p(i))
    digits = both @ size ** np.arange(size)
    ids = np.empty(size**size, np.int32)
    ids[digits[0]] = np.arange(len(orders))  # row 0: the identity and then q
    return ids[digits]


Source = Symmetric
