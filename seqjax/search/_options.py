"""How a sweep searches."""

import dataclasses
from typing import Annotated

from seqjax.search._study import PRUNERS, SAMPLERS
from seqjax.types import Checked, Count, Range, Seed

TRIALS = 20  # if nothing else says how many


@dataclasses.dataclass(frozen=True)
class Options(Checked):
    """How to search. A trial is one run, or one for each of `folds` and `seeds`, judged by their mean.

    `trials` None: 20, or the whole grid. `seed` decides what is drawn, and how folds are cut of train and validation
    (`seqjax.data.folds`); `seeds` count from the config's.
    """

    trials: Count | None = None
    sampler: SAMPLERS = "tpe"
    pruner: PRUNERS = "none"
    folds: Annotated[int, Range(least=2, most=1000)] | None = None
    seeds: Annotated[int, Range(least=1, most=1000)] = 1
    seed: Seed = 0
    storage: str | None = None
