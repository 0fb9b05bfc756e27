"""A source with fields of its own, of every kind and on two axes, and a task in which the model reads one of them."""

import dataclasses

import numpy as np

from seqjax.data import Source as _Source
from seqjax.spec import Field, Spec
from seqjax.tasks.classification import Classification


@dataclasses.dataclass(kw_only=True)
class Source(_Source):
    """Three real tokens per example, the sign of each, and their class; the other fields are only carried along."""

    def __post_init__(self):
        super().__post_init__()
        fields = {
            "features": Field("real", shape=(1,)),
            "sign": Field("real"),
            "label": Field("ids", size=2, axis=None),
            "phones": Field("ids", size=9, axis="T"),
            "pulse": Field("real", missing=True),
            "peak": Field("place", axis=None, into="L"),
            "topics": Field("bool", axis=None, shape=(5,)),
        }
        self.spec = Spec(fields, {"L": 3, "T": 2}, splits=("train", "validation", "test"))

    def size(self, split):
        return 8

    def example(self, split, index):
        sign = np.float32([1, -1, 1]) * (1 - 2 * (index % 2))
        given = {"features": np.full((3, 1), index, np.float32), "sign": sign, "label": index % 2}
        pulse = np.float32([1, np.nan, 2])
        return given | {"phones": [index], "pulse": pulse, "peak": index % 3, "topics": np.arange(5) < index}


class Task(Classification):
    """Classification of features times their signs."""

    def reads(self, batch):
        reads = super().reads(batch)
        return reads._replace(x=reads.x * batch["sign"][..., None])
