"""Trials: each is one run of one config in its own folder. An executor runs them until each has ended.

    with Local(slots=2) as executor:
        run([Trial(folder / "gru", gru), Trial(folder / "attention", attention)], executor)
    outcome(trial).best("accuracy", "more")

Next to each run folder are `<folder>.json`, the config of the run, and `<folder>.log`, its output. The state of the
trials is read from the folders, so after a kill the same call resumes.
"""

import dataclasses
import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from seqjax import config, metrics
from seqjax.metrics import Way
from seqjax.search.executors._base import Executor
from seqjax.training import files
from seqjax.training.experiment import today
from seqjax.training.records import Result, Status
from seqjax.training.signals import Interrupt
from seqjax.training.workdir import Workdir
from seqjax.types import ConfigError, NumericsError, Preempted, WorkdirError

# Preempted; or the folder was still locked by a job of a killed sweep on another machine.
AGAIN = (Preempted.exit_code, WorkdirError.exit_code)
RESTARTS = 10  # at most, of one trial
LOOK = 0.5  # seconds between two polls of the running jobs


@dataclasses.dataclass(frozen=True)
class Trial:
    """A resolved config, and the folder of its run."""

    folder: Path
    config: dict

    @property
    def given(self) -> Path:
        """The config file that the run is started with."""
        return self.folder.with_name(f"{self.folder.name}.json")

    @property
    def log(self) -> Path:
        """The file with the output of the run."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def said(self) -> list[str]:
        """The lines of its output."""
        return self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The state of a run, read from its folder. `status` None: not started; "running": the last status of the run."""

    status: Literal["done", "failed", "preempted", "running"] | None = None
    error: str | None = None
    step: int = 0  # the last known step
    rows: list[dict] = dataclasses.field(default_factory=list)  # validation, one per evaluation
    results: dict[str, Result] = dataclasses.field(default_factory=dict)  # of each split that was evaluated

    def best(self, metric: str, way: Way) -> float | None:
        """The best validation value, which also decides the best checkpoint; None if no value is finite."""
        return metrics.best(way, [row.get(metric) for row in self.rows])

    def trained(self, metric: str, way: Way) -> float | None:
        """The best validation value of a run that is done; None if it diverged, even if it had good values before."""
        return self.best(metric, way) if self.status == "done" else None

    @property
    def ended(self) -> bool:
        """Whether another start is useless, because the run is done or diverged and would only repeat itself."""
        diverged = (self.error or "").startswith(NumericsError.__name__)
        return self.status == "done" or (self.status == "failed" and diverged)


def command(trial: Trial) -> list[str]:
    """The command that trains a trial or resumes it."""
    config_file, workdir = str(trial.given), str(trial.folder)
    return [sys.executable, "-m", "seqjax", "train", "--config", config_file, "--workdir", workdir, "--quiet"]


def outcome(trial: Trial) -> Outcome:
    """Reads the outcome of a trial from its folder.

    Raises:
      ConfigError: the folder holds the run of another config.
      WorkdirError: one of the files is damaged.
    """
    workdir = Workdir(trial.folder)
    status = workdir.record("status.json", Status)
    held = workdir.read("config.json") or trial.config
    if held != trial.config:
        check_same(today(held), trial.config, f"{trial.folder} holds the run of another config")
    if status is None:
        return Outcome()
    rows, _ = history(workdir)
    step = max([status.step or 0, *(of_split[-1]["step"] for of_split in rows.values())])
    return Outcome(status.status or None, status.error, step, rows.get("validation", []), workdir.results())


def check_same(held: dict, wanted: dict, what: str, option: str = "--workdir") -> None:
    """Raises ConfigError if a folder holds something else (`what`): names a key that differs; `option` avoids it."""
    for key, (old, new) in config.differences(held, wanted).items():
        raise ConfigError(f"{what}, {key} is {old!r} there and {new!r} here: choose another {option}, or delete it.")


def history(workdir: Workdir) -> tuple[dict[str, list[dict]], bool]:
    """The rows of metrics.jsonl by split, and whether a kill cut off the last line. Values that are not finite are NaN.

    A resumed run repeats the steps since its checkpoint: a row replaces those of its split at the same or later steps.
    """
    found, by_split = workdir.whole(), {}
    for row in found.rows:
        rows = by_split.setdefault(row.pop("split"), [])
        while rows and rows[-1]["step"] >= row["step"]:
            rows.pop()
        rows.append({k: math.nan if v is None else v for k, v in row.items()})
    return by_split, found.torn


def run(
    trials: Iterable[Trial],
    executor: Executor,
    *,
    on_done: Callable[[Trial, Outcome], None] = lambda trial, outcome: None,
    stop: Callable[[Trial], bool] = lambda trial: False,
    on_look: Callable[[], None] = lambda: None,
    check: Callable[[], None] = lambda: None,
    command: Callable[[Trial], list[str]] = command,
) -> None:
    """Runs the trials that have not ended yet, and returns when all have ended. A failed trial does not end the others.

    The next trial is taken from `trials` when a slot is free, so a generator can choose it from the results so far.
    Trials that are done or diverged are not run again; trials that failed for another reason are tried once more, and
    preempted ones are resumed. `on_done(trial, outcome)` is called once for each trial. `stop(trial)` is called
    repeatedly while a trial runs: if it returns True, the trial saves, ends, and counts as preempted. `on_look()` is
    called equally often, to update a display. `check()` is called before anything is written: it raises if this process
    no longer holds the lock of the parent folder.

    Raises:
      Preempted: a signal arrived; all running trials have saved and stopped.
      ConfigError: a folder holds the run of another config.
    """
    waiting, running, starts, stopped = iter(trials), {}, {}, set()
    with Interrupt() as interrupt:
        while True:
            check()
            while not interrupt.asked and len(running) < executor.slots:
                if (trial := next(waiting, None)) is None:
                    break
                if (found := outcome(trial)).ended:
                    on_done(trial, found)
                else:
                    running[_start(trial, found, executor, command)] = trial
                on_look()
            if not running:
                break
            for job in list(running):
                if interrupt.asked or stop(running[job]):
                    stopped.add(job)
                    executor.stop(job)
            for job, code in executor.wait(LOOK):
                check()
                trial = running.pop(job)
                again = code in AGAIN and job not in stopped and not interrupt.asked
                starts[trial.folder] = starts.get(trial.folder, 0) + again
                if again and starts[trial.folder] <= RESTARTS:
                    running[_start(trial, outcome(trial), executor, command)] = trial
                elif not interrupt.asked:
                    on_done(trial, _ended(trial, code, job in stopped))
            on_look()
        if interrupt.asked:
            raise Preempted(f"{interrupt.asked}: all trials have stopped; run the same command again to go on.")


def _start(trial: Trial, found: Outcome, executor: Executor, command):
    workdir = Workdir(trial.folder.parent)
    try:
        workdir.path.mkdir(parents=True, exist_ok=True)
        trial.log.unlink(missing_ok=True)
    except OSError as error:
        raise files.unwritten(trial.log, error) from error
    workdir.write(trial.given.name, trial.config)
    if found.status:  # the status of the last start is out of date
        Workdir(trial.folder).status("running", found.step)
    return executor.submit(command(trial), trial.log)


def _ended(trial: Trial, code: int, stopped: bool) -> Outcome:
    """The outcome of a trial whose process has ended. If the folder does not record the end, it is written there."""
    found = outcome(trial)
    if found.status not in (None, "running"):
        return found
    said = trial.said()
    ours = [line.removeprefix("seqjax: ") for line in said if line.startswith("seqjax: ")]
    last = [*said, *ours][-1] if said else "it printed nothing"
    error = f"killed by signal {-code}: {last}" if code < 0 else last if ours else f"ended with code {code}: {last}"
    if code == WorkdirError.exit_code:  # the folder may belong to another run, so do not write to it
        return dataclasses.replace(found, status="failed", error=error)
    workdir = Workdir(trial.folder)
    workdir.path.mkdir(parents=True, exist_ok=True)
    workdir.status("preempted" if stopped else "failed", found.step, None if stopped else error)
    return outcome(trial)
