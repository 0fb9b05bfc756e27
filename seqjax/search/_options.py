"""The options of a sweep."""

import dataclasses
from typing import Annotated

from seqjax.search._study import PRUNERS, SAMPLERS
from seqjax.types import Checked, Count, Range, Seed

TRIALS = 20  # the default number of trials


@dataclasses.dataclass(frozen=True)
class Options(Checked):
    """How to search. A trial is one run, or one run per fold and seed, judged by their mean.

    `trials` None: 20, or the whole grid. `seed` decides which values are drawn, and how train and validation are
    divided into folds (`seqjax.data.folds`). `seeds` is the number of seeds; the first is the seed of the config.
    """

    trials: Count | None = None
    sampler: SAMPLERS = "tpe"
    pruner: PRUNERS = "none"
    folds: Annotated[int, Range(least=2, most=1000)] | None = None
    seeds: Annotated[int, Range(least=1, most=1000)] = 1
    seed: Seed = 0
    storage: str | None = None
