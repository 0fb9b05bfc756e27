"""The stages of a comparison and of a fingerprint: search a learning rate, train seeds with it, judge them on test.

The state of every run is read from its folder, so the stages run only what is missing there.
"""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from seqjax import metrics
from seqjax.metrics import Way
from seqjax.search import trials
from seqjax.search._display import QUIET, Display
from seqjax.search.executors._base import Executor
from seqjax.search.trials import Outcome, Trial
from seqjax.training.elsewhere import elsewhere
from seqjax.training.experiment import Experiment
from seqjax.training.signals import Interrupt
from seqjax.training.workdir import Workdir
from seqjax.types import ConfigError, Preempted, SeqjaxError


class Setting(NamedTuple):
    """A config that is trained at several learning rates and with several seeds: `trial(rate, seed)` is one run.

    `at`: assignments (`data.length=64`) at which the chosen runs are also judged.
    """

    name: str
    trial: Callable[[float, int], Trial]
    rates: Sequence[float]
    at: Sequence[str] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settled:
    """The result of a setting.

    `rates`: learning rate -> the best validation monitor of each rate seed, None where a run diverged. `rate`: the
    chosen one, None if all diverged. `edge`: "lowest" or "highest" if it is still at an edge of the grid, else "".
    `runs`: seed -> its outcome at the chosen rate.
    """

    rates: dict[float, list[float | None]]
    rate: float | None
    edge: str
    runs: dict[int, Outcome]


@dataclasses.dataclass(frozen=True)
class Stages:
    """Runs settings. `workdir` must be locked; names of runs are relative to `root`.

    `monitor`: the metric that chooses the learning rates, and which way it is better.
    """

    workdir: Workdir
    root: Path
    executor: Executor
    monitor: tuple[str, Way]
    display: Display = QUIET

    def settle(
        self, settings: Sequence[Setting], seeds: Sequence[int], rate_seeds: Sequence[int], extensions: int = 0
    ) -> list[Settled]:
        """Trains every setting at its rates with `rate_seeds`, then at the chosen rate with `seeds`; judges these.

        If the best rate is at an edge of the grid, the grid is extended there, at most `extensions` times.

        Raises:
          Preempted: a signal arrived; the running jobs have saved.
          SeqjaxError: some runs failed; call again to retry them.
        """
        searched = self._search(settings, rate_seeds, extensions)
        rates = [best_rate(tried, self.monitor[1]) for tried in searched]
        chosen = [
            {} if rate is None else {seed: setting.trial(rate, seed) for seed in seeds}
            for setting, rate in zip(settings, rates, strict=True)
        ]
        self._train([trial for runs in chosen for trial in runs.values()], "seeds")
        self._judge([(trial, s.at) for s, runs in zip(settings, chosen, strict=True) for trial in runs.values()])
        settled = []
        for tried, rate, runs in zip(searched, rates, chosen, strict=True):
            edge = "" if rate is None or beyond(tried, rate) is None else "lowest" if rate == min(tried) else "highest"
            ended = {seed: trials.outcome(trial) for seed, trial in runs.items()}
            settled.append(Settled(rates=dict(sorted(tried.items())), rate=rate, edge=edge, runs=ended))
        return settled

    def _search(self, settings: Sequence[Setting], seeds: Sequence[int], extensions: int) -> list[dict]:
        """Rate -> the best validation value of each seed, for every setting."""
        grids = [list(setting.rates) for setting in settings]
        while True:
            pairs = list(zip(settings, grids, strict=True))
            self._train([s.trial(rate, seed) for s, grid in pairs for rate in grid for seed in seeds], "learning rates")
            value = lambda trial: trials.outcome(trial).trained(*self.monitor)
            tried = [{rate: [value(s.trial(rate, seed)) for seed in seeds] for rate in grid} for s, grid in pairs]
            more = False
            for (setting, grid), of in zip(pairs, tried, strict=True):
                if len(grid) < len(setting.rates) + extensions and (rate := beyond(of, best_rate(of, self.monitor[1]))):
                    grid.append(rate)
                    self.display.say(f"{setting.name}: the grid of learning rates is extended to {rate:g}")
                    more = True
            if not more:
                return tried

    def _train(self, wanted: Sequence[Trial], title: str) -> None:
        """Runs the trials that have not ended yet."""
        left = [t for t in {t.folder: t for t in wanted}.values() if not trials.outcome(t).ended]
        if not left:
            return
        failed = {}
        self.display.stage(title, len(left))

        def on_done(trial: Trial, outcome: Outcome):
            name, best = self.monitor[0], outcome.best(*self.monitor)
            known = f"{name} was never finite on validation" if best is None else f"{name} {best:.4f}"
            said = f"{outcome.status}: {outcome.error}" if outcome.status != "done" else known
            if not outcome.ended:
                failed[self._name(trial)] = outcome.error
            self.display.done(f"{self._name(trial)}: {said}")

        trials.run(left, self.executor, on_done=on_done, check=self.workdir.check)
        _complain(failed, len(left), "runs")

    def _judge(self, wanted: Sequence[tuple[Trial, Sequence[str]]]) -> None:
        """Evaluates each finished run once on test, and on the test splits of other data."""
        left = []
        for trial, at in wanted:
            outcome = trials.outcome(trial)
            if outcome.status == "done" and not {split(), *map(split, at)} <= set(outcome.results):
                left.append((trial, at))
        if not left:
            return
        self.display.stage("test", len(left))
        failed, before = {}, {trial.folder: len(trial.said()) for trial, _ in left}
        with Interrupt() as interrupt:
            jobs = {self.executor.submit(_command(trial, at), trial.log): trial for trial, at in left}
            while jobs and not interrupt.asked:
                for job, code in self.executor.wait(trials.LOOK):
                    trial = jobs.pop(job)
                    if code:
                        said = trial.said()[before[trial.folder] :] or ["it printed nothing"]
                        failed[self._name(trial)] = f"ended with code {code}: {said[-1]}"
                    self.display.done(f"{self._name(trial)}: {'failed' if code else 'evaluated'}")
            if interrupt.asked:
                self.executor.close()
                raise Preempted(f"{interrupt.asked}: evaluations stopped; run the same command again to go on.")
        _complain(failed, len(left), "evaluations")

    def _name(self, trial: Trial) -> str:
        return str(trial.folder.relative_to(self.root))


def split(at: str | None = None) -> str:
    """The name in results.json of the test split, or of the test split of other data."""
    return f"test at {at}" if at else "test"


def impossible(tree: dict, assignments: Sequence[str]) -> dict[str, str]:
    """Assignment -> why a model cannot be evaluated there, for the assignments where it cannot."""
    experiment, out = Experiment(tree) if assignments else None, {}
    for assignment in assignments:
        try:
            elsewhere(experiment, assignment)
        except ConfigError as error:
            out[assignment] = str(error)
    return out


def best_rate(rates: dict[float, list[float | None]], way: Way) -> float | None:
    """The learning rate with the best mean over its seeds; a rate that diverged with any seed does not count."""
    means = {rate: sum(values) / len(values) for rate, values in sorted(rates.items()) if None not in values}
    return metrics.best(way, means, means.get)


def beyond(rates: dict[float, list[float | None]], best: float | None) -> float | None:
    """The next learning rate if the best is at an edge of the grid, or a lower one if all diverged; else None.

    One rate is no grid: it stands for a learner that has none.
    """
    grid = sorted(rates)
    if len(grid) == 1:
        return None
    if best is None or best == grid[0]:
        following = grid[0] ** 2 / grid[1]
    elif best == grid[-1]:
        following = grid[-1] ** 2 / grid[-2]
    else:
        return None
    return float(f"{following:.3g}")


def _command(trial: Trial, at: Sequence[str]) -> list[str]:
    command = [sys.executable, "-m", "seqjax", "evaluate", "--workdir", str(trial.folder), "--split", "test"]
    return [*command, *(word for a in at for word in ("--at", a))]


def _complain(failed: dict, count: int, what: str) -> None:
    if failed:
        listed = "\n".join(f"  {name}: {error}" for name, error in failed.items())
        raise SeqjaxError(f"{len(failed)} of {count} {what} failed; the same command tries them again:\n{listed}")
