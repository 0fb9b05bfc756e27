"""Multi-query associative recall (MQAR) as the paper that named it draws it."""

import dataclasses
from typing import Annotated, Literal

import numpy as np

from seqjax.data._random import SPLITS, Generated
from seqjax.spec import Field, Spec
from seqjax.types import Count, Range


@dataclasses.dataclass(kw_only=True)
class MQAR(Generated):
    """MQAR: read pairs of key and value; later, tag each key that comes again with its value.

        length=12, pairs=2, vocabulary=20, filler="zero" (0 is the filler, 1 ... 9 are keys, 10 ... 19 values):

        tokens   7 15 3 11 3  0 0 0 7  0 0 0
        tags     0  0 0  0 11 0 0 0 15 0 0 0
        scored   .  . . .  x  . . . x  . . .

    It is a task for `tag`: the answer is predicted where the key is asked for, and no token tells it. The keys of an
    example are distinct, and so are its values. Each key is asked for once, 2 g tokens after the end of the pairs, in
    which the g of an example are distinct, drawn one after the other with probabilities proportional to
    (g + 1)^(`power` - 1), g = 0, 1, ...: most queries come early, as in text. Splits are drawn independently.

    `length`: number of tokens, even. `pairs`: number of pairs in every example, at most a quarter of `length`.
    `vocabulary`: even; the lower half are the filler 0 and the keys, the upper half are the values.
    `power`: in (0, 1]; 1 asks at uniform distances.
    `filler`: what all other tokens after the pairs are: "random" tokens of the vocabulary, or "zero".
    `train_examples`: number of examples in train; None: train is endless.
    `seed`: seed of the examples. `examples`: number of examples in validation and in test.

    Arora et al. 2023, "Zoology: measuring and improving recall in efficient language models", arXiv:2312.04927, and
    `multiquery_ar` of its code (`power_a`, `random_non_queries`). The source `recall` is easier: it has no filler, the
    answer follows its key, so that later tokens may read it, and values may occur twice.

    Raises:
      ValueError: `length` or `vocabulary` is odd, or the pairs do not fit into one of them.
    """

    length: Count = 64
    pairs: Count = 4
    vocabulary: Count = 8192
    power: Annotated[float, Range(above=0, most=1)] = 0.01
    filler: Literal["random", "zero"] = "random"
    train_examples: Count | None = None

    def __post_init__(self):
        super().__post_init__()
        for name in ("length", "vocabulary"):
            if getattr(self, name) % 2:
                raise ValueError(f"{name}={getattr(self, name)} is odd: choose an even number.")
        for name, least in (("length", 4 * self.pairs), ("vocabulary", 2 * self.pairs + 2)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"{name}={getattr(self, name)} is too small for pairs={self.pairs}: raise it to {least}, or lower "
                    "pairs."
                )
        ids = Field("ids", size=self.vocabulary)
        self.spec = Spec({"tokens": ids, "tags": ids, "scored": Field("bool")}, {"L": self.length}, splits=SPLITS)
        likely_G = np.arange(1, self.length // 2 - self.pairs + 1) ** (self.power - 1)
        self._p_G = likely_G / likely_G.sum()

    def size(self, split):
        return self.train_examples if split == "train" else self.examples

    def draw(self, random, split):
        count, half = self.pairs, self.vocabulary // 2
        keys = 1 + random.choice(half - 1, count, replace=False)
        values = half + random.choice(half, count, replace=False)
        asked = 2 * count + 2 * random.choice(len(self._p_G), count, replace=False, p=self._p_G)
        tokens_L, tags_L = np.zeros((2, self.length), np.int32)
        if self.filler == "random":
            tokens_L[:] = random.integers(self.vocabulary, size=self.length)
        tokens_L[: 2 * count] = np.stack([keys, values], axis=1).reshape(-1)
        tokens_L[asked], tags_L[asked] = keys, values
        scored_L = np.zeros(self.length, bool)
        scored_L[asked] = True
        return {"tokens": tokens_L, "tags": tags_L, "scored": scored_L}

    def baselines(self, split):
        """The accuracy of any one value of the example, which needs no link from key to value."""
        return {"accuracy": {"one value of the example": 1 / self.pairs}}


Source = MQAR
