"""A source that gives a field of its own, and a task in which the model reads it."""

import dataclasses

import numpy as np

from seqjax import spec
from seqjax.data import Source as _Source
from seqjax.tasks.classification import Classification


@dataclasses.dataclass(kw_only=True)
class Source(_Source):
    """Three real tokens per example, the sign of each, and their class."""

    def __post_init__(self):
        super().__post_init__()
        self.spec = spec.features(1, 3, classes=2, splits=("train", "validation", "test"))

    def size(self, split):
        return 8

    def example(self, split, index):
        sign = np.float32([1, -1, 1]) * (1 - 2 * (index % 2))
        return {"features": np.full((3, 1), index, np.float32), "sign": sign, "label": index % 2}


class Task(Classification):
    """Classification of features times their signs."""

    def reads(self, batch):
        reads = super().reads(batch)
        return reads._replace(x=reads.x * batch["sign"][..., None])
