"""A source that gives a field of its own, and a task in which the model reads it."""

import dataclasses

import numpy as np

from seqjax.data import Source as _Source
from seqjax.spec import Field, Spec
from seqjax.tasks.classification import Classification


@dataclasses.dataclass(kw_only=True)
class Source(_Source):
    """Three real tokens per example, the sign of each, and their class."""

    def __post_init__(self):
        super().__post_init__()
        fields = {"features": Field("real", shape=(1,)), "sign": Field("real"), "label": Field("ids", 2, axis=None)}
        self.spec = Spec(fields, {"L": 3}, splits=("train", "validation", "test"))

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
