"""Multi-query associative recall."""

import dataclasses

import numpy as np

from seqjax import spec
from seqjax.data._random import SPLITS, Generated
from seqjax.types import Count


@dataclasses.dataclass(kw_only=True)
class Recall(Generated):
    """Recall: read pairs of key and value, then give the value of each key again (MQAR).

        pairs=3, keys=4, values=4, written as letters for keys (ids 0 ... 3) and digits for values (ids 4 ... 7):

        tokens   C 1 A 0 D 1 | A 0 D 1 C 1
        scored   . . . . . .   . x . x . x      (the bar is not a token)

    The pairs come first, then the same keys in random order, each followed by its value. The keys of an example are
    distinct; values are independent and uniform, so one answer says nothing about the next. A model must store all
    pairs and look them up by content: attention does so in one step, a recurrent state must be large enough for them.

    `pairs`: number of pairs in every example of every split. `keys`, `values`: number of distinct keys and values.
    `seed`: seed of the examples. `examples`: number of examples in validation and in test; train is endless.

    Arora et al. 2023, "Zoology: measuring and improving recall in efficient language models", arXiv:2312.04927; the
    source `mqar` is that task as its authors define it.
    """

    pairs: Count = 8
    keys: Count = 64
    values: Count = 64

    def __post_init__(self):
        super().__post_init__()
        if self.keys < self.pairs:
            raise ValueError(f"keys={self.keys} is below pairs={self.pairs}: raise keys, as each pair has its own.")
        self.spec = spec.tokens(self.keys + self.values, 4 * self.pairs, scored=True, splits=SPLITS)

    def draw(self, random, split):
        keys = random.choice(self.keys, self.pairs, replace=False)
        values = self.keys + random.integers(self.values, size=self.pairs)
        order = random.permutation(self.pairs)
        pairs = np.stack([keys, values], axis=1)
        tokens_L = np.concatenate([pairs, pairs[order]]).reshape(-1).astype(np.int32)
        place_L = np.arange(len(tokens_L))
        return {"tokens": tokens_L, "scored": (place_L >= 2 * self.pairs) & (place_L % 2 == 1)}

    def baselines(self, split):
        """The accuracy of always giving the most frequent value, which needs no link from key to value."""
        right = []
        for index in range(self.examples):
            example = self.example(split, index)
            counts = np.unique_counts(example["tokens"][example["scored"]]).counts
            right.append(counts.max() / self.pairs)
        return {"accuracy": {"most frequent value": float(np.mean(right))}}


Source = Recall
