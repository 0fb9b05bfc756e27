"""Sources that break their promises at record 5."""

import dataclasses

import numpy as np

from seqjax.data import Source
from seqjax.types import Spec


@dataclasses.dataclass(kw_only=True)
class Faulty(Source):
    """Tokens below 4, three classes, length 6; record 5 is as `fault` says, `count` records."""

    fault: str = ""
    count: int | None = 8

    def __post_init__(self):
        super().__post_init__()
        sizes = {"features": 2} if self.fault == "nan feature" else {"vocabulary": 4}
        self.spec = Spec(classes=3, length=6, splits=("train",), **sizes)

    def size(self, split):
        return self.count

    def example(self, split, index):
        tokens, label = np.arange(4, dtype=np.int32), 1
        fault = self.fault if index == 5 else ""
        if fault == "raise":
            raise RuntimeError("the tape is torn")
        if fault.startswith("token"):
            tokens[2] = int(fault.split()[1])
        if fault.startswith("label"):
            label = int(fault.split()[1])
        if fault == "overlong":
            tokens = np.zeros(7, np.int32)
        if fault == "no label":
            return {"tokens": tokens}
        if self.fault == "nan feature":
            return {"features": np.full((4, 2), np.nan if fault else 0, np.float32), "label": label}
        return {"tokens": tokens, "label": label}


class Unbuildable(Faulty):
    """Fails in its constructor, with an error of its own."""

    def __post_init__(self):
        raise ValueError("the cupboard is bare")
