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
    """Symmetric group: read permutations of `degree` things, then name their composition.

        length=4, degree=3, ids 0 ... 5 for the orders 012 021 102 120 201 210:

        tokens   1 3 3 1 6 3      6 ends the word; 3: thing i goes to x[3](x[2](x[1](x[0](i))))
        scored   . . . . . x

    The order matters, so counting is not enough: a model must update a state symbol by symbol. From degree 5 on, no
    circuit of constant depth solves this for all lengths, unless TC0 = NC1 (Barrington 1989): attention and linear
    recurrences with diagonal transitions need more layers for longer words. Symbols are independent and uniform.
    Splits are drawn independently: if there are few distinct words, validation repeats some words of train.

    `length`: number of permutations, drawn from `min_length` ... `length` in train, exactly `length` in validation and
    test. `degree`: number of things that are permuted. `generators`: words are drawn from "all" permutations, or from
    the "two" that generate all others: the swap of the first two things, and the cycle of all things. `seed`: seed of
    the examples. `examples`: number of examples in validation and in test; train is endless.

    Merrill et al. 2024, "The illusion of state in state-space models", arXiv:2404.08819.
    """

    degree: Annotated[int, Range(least=3, most=6)] = 5
    generators: Literal["all", "two"] = "all"

    @property
    def symbols(self):
        """The number of permutations, degree!; ids are in lexicographic order, and 0 is the identity."""
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
        """The accuracy of the most frequent answer, if it is given to every word."""
        answers = [self.example(split, index)["tokens"][-1] for index in range(self.examples)]
        counts = np.unique_counts(answers).counts
        return {"accuracy": {"most frequent answer": float(counts.max() / self.examples)}}


@functools.cache
def permutations(size: int) -> dict[tuple[int, ...], int]:
    """A permutation, as the places where things go -> its id."""
    return {p: i for i, p in enumerate(itertools.permutations(range(size)))}


@functools.cache
def products(size: int) -> np.ndarray:
    """A table: [p, q] -> id of p followed by q."""
    orders = np.array(list(permutations(size)))
    both = orders[np.arange(len(orders))[None, :, None], orders[:, None, :]]  # q(p(i))
    digits = both @ size ** np.arange(size)
    ids = np.empty(size**size, np.int32)
    ids[digits[0]] = np.arange(len(orders))  # row 0: the identity followed by q
    return ids[digits]


Source = Symmetric
