"""One of k folds of another source, for cross-validation."""

import dataclasses
from collections.abc import Callable
from typing import Annotated

import numpy as np

from seqjax.data._stored import Stored
from seqjax.types import Count, Natural, Part, Range, Seed


@dataclasses.dataclass(kw_only=True)
class Folds(Stored):
    """Folds: train and validation of another source, pooled and cut into k folds; one fold is held out.

        of: train a b c d e f, validation g h i;  folds=3, fold=1:

        pool, shuffled   d h a | g b f | i c e
        train            d h a           i c e
        validation               g b f

    The same `seed` gives the same folds, so over fold = 0 ... folds - 1 each example is held out exactly once.
    The sizes of two folds differ by at most one example. The test split is that of the other source, unchanged.
    `seqjax sweep --folds` writes these config sections.

    Raises:
      ValueError: `fold` is not below `folds`, the other source is endless or has fewer examples than folds.
    """

    of: Annotated[Callable, Part("seqjax.data", "Source")]
    folds: Annotated[Count, Range(least=2)] = 5
    fold: Natural = 0
    seed: Seed = 0

    def __post_init__(self):
        super().__post_init__()
        if self.fold >= self.folds:
            raise ValueError(f"fold={self.fold} is not below folds={self.folds}: choose 0 ... {self.folds - 1}.")
        source = self.of(**({"saved": self.saved} if self.saved is not None else {}))
        splits = source.spec.splits
        endless = [split for split in splits if source.size(split) is None]
        if endless:
            raise ValueError(
                f"{type(source).__module__} draws {endless[0]} without end: choose a finite source for folds."
            )
        every = lambda split: [source.example(split, i) for i in range(source.size(split))]
        pool = [example for split in ("train", "validation") if split in splits for example in every(split)]
        if len(pool) < self.folds:
            raise ValueError(f"folds={self.folds} is more than the {len(pool)} examples: use fewer folds.")
        order = np.random.Generator(np.random.Philox(key=self.seed)).permutation(len(pool))
        parts = np.array_split(order, self.folds)
        rest = np.concatenate(parts[: self.fold] + parts[self.fold + 1 :])
        self._examples = {
            "train": [pool[i] for i in rest],
            "validation": [pool[i] for i in parts[self.fold]],
            **{split: every(split) for split in splits if split not in ("train", "validation")},
        }
        self.classes, self.codec = getattr(source, "classes", None), getattr(source, "codec", None)
        self.measured = getattr(source, "measured", {})
        self.spec = dataclasses.replace(source.spec, splits=tuple(self._examples))
        self.count()


Source = Folds
