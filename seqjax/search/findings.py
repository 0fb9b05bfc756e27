"""The results of a comparison: scores by contender, value and seed, and the conclusions that they support."""

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any, NamedTuple

from seqjax.metrics import Way
from seqjax.search import statistics
from seqjax.search.match import Size
from seqjax.search.plan import Comparison, Entry
from seqjax.search.stages import Settled, split
from seqjax.search.trials import Trial
from seqjax.training.records import Result

ALPHA = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found(Settled):
    """The results of one contender at one value of the key that varies."""

    cell: Entry
    size: Size

    def trial(self, seed: int, root: Path = Path()) -> Trial:
        """One of its runs; see `Entry.trial`."""
        return self.cell.trial(root, self.rate, seed)

    def judged(self, seed: int, at: str | None = None) -> Result | None:
        """The result of a seed on test, or on the test split of other data; None if it was not evaluated."""
        return self.runs[seed].results.get(split(at)) if seed in self.runs else None

    def seconds(self) -> list[float]:
        """The training time, in seconds, of each run that did not diverge."""
        return [run.rows[-1]["seconds"] for run in self.runs.values() if run.status == "done" and run.rows]

    def diverged(self) -> list[int]:
        """The seeds whose run diverged, so that they have no result."""
        return [seed for seed, run in self.runs.items() if run.status != "done"]


class Pair(NamedTuple):
    """Two contenders at one value. `ahead`: the mean lead of the first over the seeds that both have.

    `low` and `high`: the bootstrap interval of the paired difference. `p`: the p-value of the paired
    permutation test, never below `floor`. `adjusted`: p after Holm's correction over all pairs. `wins`: P(a run of the
    first beats a run of the second). `agree`: the number of the `n` seeds with which the first is ahead.
    """

    first: str
    second: str
    value: Any
    n: int
    ahead: float
    low: float
    high: float
    p: float
    adjusted: float
    floor: float
    wins: float
    agree: int


@dataclasses.dataclass(frozen=True)
class Findings:
    """All results of a comparison.

    `metrics`: metric -> which way is better. `impossible`: (contender, value, assignment) -> why it cannot be evaluated
    there.
    """

    comparison: Comparison
    founds: list[Found]
    monitor: str
    metrics: dict[str, Way]
    impossible: dict[tuple, str]

    @property
    def metric(self) -> str:
        """The metric that the contenders are judged by."""
        return self.comparison.metric or self.monitor

    @property
    def sign(self) -> int:
        """1 if a higher metric is better, else -1."""
        return 1 if self.metrics[self.metric] == "more" else -1

    def at(self, value) -> list[Found]:
        """All contenders at a value, in the order of the file."""
        return [found for found in self.founds if found.cell.value == value]

    def scores(self, found: Found, at: str | None = None) -> dict[int, float]:
        """Seed -> score, for the seeds that have a finite one."""
        judged = {seed: result for seed in found.runs if (result := found.judged(seed, at))}
        scores = {seed: result.metrics.get(self.metric) for seed, result in judged.items()}
        return {seed: score for seed, score in scores.items() if score is not None and math.isfinite(score)}

    def summary(self, found: Found, at: str | None = None) -> statistics.Summary | None:
        """The summary over the seeds; None if no seed has a score."""
        scores = self.scores(found, at)
        return statistics.summary(list(scores.values())) if scores else None

    def ranked(self, value) -> list[Found]:
        """The contenders at a value that have a score, the best mean first."""
        scored = [found for found in self.at(value) if self.scores(found)]
        return sorted(scored, key=lambda found: -self.sign * self.summary(found).mean)

    def winners(self, value) -> list[Found]:
        """The contenders with the best mean at a value; several if their means are equal."""
        ranked = self.ranked(value)
        mean = lambda found: self.summary(found).mean
        return [found for found in ranked if math.isclose(mean(found), mean(ranked[0]), rel_tol=1e-12)]

    def pairs(self) -> list[Pair]:
        """Every pair of contenders at every value, paired by seed: the same seed of weights, the same order of data."""
        rough = []
        for value in self.comparison.values:
            for first, second in itertools.combinations(self.ranked(value), 2):
                a, b = self.scores(first), self.scores(second)
                seeds = [seed for seed in a if seed in b]
                if not seeds:
                    continue
                n, leads = len(seeds), [self.sign * (a[s] - b[s]) for s in seeds]
                if sum(leads) < 0:  # the ranking also used seeds that only one of them has
                    first, second, a, b, leads = second, first, b, a, [-lead for lead in leads]
                names = first.cell.name, second.cell.name
                p, floor = statistics.permutation_test(leads, [0.0] * n), statistics.smallest_p(n)
                wins = statistics.improvement(*([self.sign * v for v in scores.values()] for scores in (a, b)))
                agree = sum(lead > 0 for lead in leads)
                interval = statistics.interval(leads)
                rough.append(Pair(*names, value, n, sum(leads) / n, *interval, p, math.nan, floor, wins, agree))
        adjusted = statistics.holm([pair.p for pair in rough])
        return [pair._replace(adjusted=p) for pair, p in zip(rough, adjusted, strict=True)]
