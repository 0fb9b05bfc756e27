"""The results of a sweep as plain data for tables and figures."""

import dataclasses
import statistics
from pathlib import Path
from typing import Literal

from seqjax import metrics
from seqjax.metrics import Way


@dataclasses.dataclass(frozen=True)
class Record:
    """The record of a trial. `value` is the mean over `parts`, one per fold and seed."""

    number: int
    status: Literal["done", "pruned", "failed", "running"]
    params: dict
    value: float | None = None
    parts: list[float] = dataclasses.field(default_factory=list)
    error: str | None = None
    seconds: float | None = None  # from its first start to its end, including pauses
    curve: dict[int, float] = dataclasses.field(default_factory=dict)  # the values reported to the pruner, by step

    @property
    def spread(self) -> float | None:
        """The standard deviation over the parts, if there are several."""
        return statistics.stdev(self.parts) if len(self.parts) > 1 else None


@dataclasses.dataclass(frozen=True)
class Summary:
    """A whole sweep. `importances`: parameter -> share; `logarithmic`: the parameters drawn on a logarithmic scale."""

    folder: Path
    problem: str  # the task, the data and the monitor of the trials
    monitor: str
    way: Way  # which way the monitor is better
    how: str  # how the trials were drawn
    records: list[Record]
    importances: dict[str, float]
    logarithmic: set[str]

    @property
    def best(self) -> Record | None:
        """The best of the trials that are done, the first if several are equal."""
        return best(self.records, self.way)

    @property
    def params(self) -> list[str]:
        """The parameters of all trials, in the order in which they first occur."""
        return list(dict.fromkeys(name for record in self.records for name in record.params))


def best(records: list[Record], way: Way) -> Record | None:
    """The best of the trials that are done, the first if several are equal; None if no trial is done."""
    return metrics.best(way, [record for record in records if record.status == "done"], lambda record: record.value)
