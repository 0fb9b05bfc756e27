"""Randomness that is a pure function of (seed, split, index), and generators built on it."""

import dataclasses

import numpy as np

from seqjax.data._source import Source
from seqjax.types import Count, Seed

SPLITS = ("train", "validation", "test")


def generator(seed: int, split: str, index: int) -> np.random.Generator:
    """The random stream of one example; streams of different splits or indices do not overlap."""
    if index < 0:
        raise IndexError(f"{split} has examples from 0 on, got {index}.")
    # The index is the highest word of the counter, and counting starts at the lowest: streams are 2^192 blocks apart.
    return np.random.Generator(philox([seed, SPLITS.index(split)], [0, 0, 0, index]))


def philox(key, counter) -> np.random.Philox:
    """`np.random.Philox(key=key, counter=counter)`, for two and four words.

    That call first asks the system for entropy, which takes twice as long as all other work.
    """
    return np.random.Philox(_Key(np.array(key, np.uint64)), counter=np.array(counter, np.uint64))


class _Key(np.random.bit_generator.ISeedSequence):
    """Gives Philox its key unchanged."""

    def __init__(self, words: np.ndarray):
        self.words = words

    def generate_state(self, n_words, dtype=np.uint32):
        return self.words


@dataclasses.dataclass(kw_only=True)
class Generated(Source):
    """Examples drawn at random: train is endless, validation and test have `examples` each.

    `example` is pure within one version of numpy; another version may draw other numbers.
    """

    seed: Seed = 0
    examples: Count = 512

    def draw(self, random: np.random.Generator, split: str) -> dict[str, np.ndarray]:
        """Draws one example."""
        raise NotImplementedError

    def size(self, split):
        return None if split == "train" else self.examples

    def example(self, split, index):
        size = self.size(split)
        if size is not None and index >= size:
            raise IndexError(f"{split} has examples 0 ... {size - 1}, got {index}.")
        return self.draw(generator(self.seed, split, index), split)

    def lengths(self, split):
        # All examples of a finite split have the longest length.
        return np.full(self.size(split), self.spec.length)


@dataclasses.dataclass(kw_only=True)
class Strings(Generated):
    """Strings over `symbols`, of length `min_length` ... `length` in train, exactly `length` in the other splits."""

    length: Count = 16
    min_length: Count = 1
    symbols: Count = 8

    def __post_init__(self):
        super().__post_init__()
        if self.min_length > self.length:
            raise ValueError(f"min_length={self.min_length} is above length={self.length}: lower min_length.")

    def string(self, random: np.random.Generator, split: str) -> np.ndarray:
        """Draws independent and uniform symbols, int32."""
        count = random.integers(self.min_length, self.length + 1) if split == "train" else self.length
        return random.integers(self.symbols, size=count, dtype=np.int32)
