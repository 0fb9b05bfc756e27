"""Sources that break their promises."""

import dataclasses

import numpy as np

from seqjax import spec
from seqjax.data import Source
from seqjax.spec import Field, Spec


@dataclasses.dataclass(kw_only=True)
class Faulty(Source):
    """Tokens below 4, three classes, length 6; record 5 is as `fault` says, `count` records."""

    fault: str = ""
    count: int | None = 8

    def __post_init__(self):
        super().__post_init__()
        make, size = (spec.features, 2) if self.fault == "nan feature" else (spec.tokens, 4)
        self.spec = make(size, 6, classes=3)

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


@dataclasses.dataclass(kw_only=True)
class Signs(Source):
    """Endless: one feature at three places, whose sign is the label; batch number n holds records n * batch and on.

    In the batches `huge` a feature is 3e38, which no sum survives; in those `loud` the field of that name is 1e4; of
    those `empty` nothing is left.
    """

    batch: int = 4
    huge: tuple[int, ...] = ()
    loud: tuple[int, ...] = ()
    empty: tuple[int, ...] = ()

    def __post_init__(self):
        super().__post_init__()
        loud = Field("real", axis=None)
        self.spec = Spec({**spec.features(1, classes=2).fields, "loud": loud}, {"L": 3})

    def size(self, split):
        return None

    def example(self, split, index):
        number, label = index // self.batch, index % 2
        features = np.random.default_rng(index).normal(2.0 * label - 1, 0.5, (3, 1)).astype(np.float32)
        if number in self.huge:
            features[:] = 3e38
        if number in self.empty:
            features = features[:0]
        return {"features": features, "label": label, "loud": np.float32(1e4 if number in self.loud else 1)}


@dataclasses.dataclass(kw_only=True)
class Growing(Source):
    """Four short records to each long one; the same again to validate on, if asked for."""

    validation: bool = False

    def __post_init__(self):
        super().__post_init__()
        self.spec = spec.tokens(5, 8, splits=("train", "validation") if self.validation else ("train",))

    def size(self, split):
        return 20

    def lengths(self, split):
        return np.where(np.arange(20) < 16, 4, 8)

    def example(self, split, index):
        tokens = np.random.default_rng(index).integers(5, size=8 if index >= 16 else 4, dtype=np.int32)
        return {"tokens": tokens}


@dataclasses.dataclass(kw_only=True)
class TwoDocuments(Source):
    """Twelve windows of four tokens; the second document begins in the fifth, which is poison like the sixth."""

    def __post_init__(self):
        super().__post_init__()
        tokens, reset = np.arange(12 * 4 + 1, dtype=np.int32) % 3, np.zeros(12 * 4 + 1, bool)
        reset[[0, 18]], tokens[17:25] = True, 3
        self.whole = {"tokens": tokens, "reset": reset}
        self.spec = spec.tokens(4, 5, reset=True, splits=("train",))

    def size(self, split):
        return None

    def stream(self, split):
        return dict(self.whole)
