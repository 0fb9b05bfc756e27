"""A finite source that stops when it is told to."""

import dataclasses
import os
import time
from pathlib import Path

import numpy as np

from seqjax import spec
from seqjax.data import Source
from seqjax.types import Count


@dataclasses.dataclass(kw_only=True)
class Held(Source):
    """Random tokens of lengths 2 to 8.

    With HOLD="100:FILE" in the environment, the 100th example writes into FILE and waits while FILE is there.
    """

    count: Count = 10
    dir: str = "here"  # a place, as other sources have one

    def __post_init__(self):
        super().__post_init__()
        self.spec = spec.tokens(5, 8, splits=("train", "validation"))
        self.calls, hold = 0, os.environ.get("HOLD", "")
        self.after, self.file = (int(hold.partition(":")[0]), Path(hold.partition(":")[2])) if hold else (None, None)

    def size(self, split):
        return self.count if split == "train" else 5

    def lengths(self, split):
        return 2 + 3 * np.arange(self.size(split)) % 7

    def example(self, split, index):
        self.calls += 1
        if self.calls == self.after:
            self.file.write_text("held")
            while self.file.exists():
                time.sleep(0.01)
        random = np.random.default_rng([index, len(split)])
        return {"tokens": random.integers(5, size=2 + 3 * index % 7, dtype=np.int32)}


@dataclasses.dataclass(kw_only=True)
class Tagged(Held):
    """The same with a tag per token, one of three."""

    def __post_init__(self):
        super().__post_init__()
        fields = {**self.spec.fields, "tags": spec.Field("ids", size=3)}
        self.spec = dataclasses.replace(self.spec, fields=fields)

    def example(self, split, index):
        found = super().example(split, index)
        return found | {"tags": (found["tokens"] + index) % 3}
