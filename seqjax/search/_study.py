"""The study of a sweep: Optuna's record of the past trials, and its choice of the next one."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from seqjax import lookup
from seqjax.screen import hidden
from seqjax.search import space as spaces
from seqjax.search._records import Record
from seqjax.training import files
from seqjax.types import Checked, ConfigError, Count, Range, Seed, WorkdirError

TRIALS = 20  # the default number of trials
ENOUGH = 10  # trials needed for an estimate of importance


@dataclasses.dataclass(frozen=True)
class Options(Checked):
    """How to search. A trial is one run, or one run per fold and seed, judged by their mean.

    `trials` None: 20, or the whole grid. `seed` decides which values are drawn, and how train and validation are
    divided into folds (`seqjax.data.folds`). `seeds` is the number of seeds; the first is the seed of the config.
    `storage`: the URL of a database; None: a journal file.
    """

    trials: Count | None = None
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    pruner: Literal["none", "median", "halving"] = "none"
    folds: Annotated[int, Range(least=2, most=1000)] | None = None
    seeds: Annotated[int, Range(least=1, most=1000)] = 1
    seed: Seed = 0
    storage: str | None = None


class Study:
    """A study in a journal file, or in the database that the options name.

    A study has one writer. A trial that it stores as running is therefore left over from a writer that was killed:
    see `unfinished`. The study is read once. After that, `running` (by number) and `ended` (in the order in which the
    trials ended) are kept up to date.

    Raises:
      ConfigError: Optuna or scikit-learn is not installed (extra `sweep`), no such storage, an infinite grid.
    """

    def __init__(self, journal: Path, name: str, space: dict, maximize: bool, options: Options):
        self.optuna = optuna = lookup.require("optuna", "sweep", "seqjax sweep")
        lookup.require("sklearn", "sweep", "seqjax sweep")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.options, storage = space, options, options.storage
        self.grid = spaces.grid(space) if options.sampler == "grid" else None
        self._trials: dict = {}  # Optuna trials that are running
        try:
            self._study = optuna.create_study(
                storage=optuna.storages.JournalStorage(Journal(journal)) if storage is None else storage,
                study_name=name,
                direction="maximize" if maximize else "minimize",
                pruner=_pruner(optuna, options.pruner),
                load_if_exists=True,
            )
        except Exception as error:  # each database driver has its own exception types
            if storage is None:
                raise
            reason = hidden(storage, f"{type(error).__name__}: {error}")
            raise ConfigError(f"--storage {hidden(storage)}: {reason}") from error
        held = self._study.get_trials(deepcopy=False)
        self._left = {trial.number: trial._trial_id for trial in held if trial.state.name == "RUNNING"}
        self._waiting = any(trial.state.name == "WAITING" for trial in held)  # enqueued, but not asked for: a kill
        known = [_record(trial) for trial in held if trial.state.name != "WAITING"]
        self.running: dict[int, Record] = {record.number: record for record in known if record.number in self._left}
        self.ended: list[Record] = [record for record in known if record.number not in self._left]

    @property
    def count(self) -> int:
        """How many trials have begun."""
        return len(self.running) + len(self.ended)

    def ask(self) -> tuple[int, dict]:
        """Returns the number and the values of a new trial."""
        number = self.count
        self._sample(number)
        if self.grid is not None and not self._waiting:
            self._study.enqueue_trial(self.grid[number])
        self._waiting = False
        return number, self._draw(number, self._study.ask(), {})

    def unfinished(self) -> list[tuple[int, dict]]:
        """Returns the trials that were running when the last writer was killed; draws the values they still lack."""
        found = []
        for number, key in self._left.items():
            self._sample(number)
            trial = self.optuna.trial.Trial(self._study, key)
            found.append((number, self._draw(number, trial, self.running[number].curve)))
        return found

    def _draw(self, number: int, trial, curve: dict) -> dict:
        values = spaces.suggest(self.space, trial)
        self._trials[number] = trial
        self.running[number] = Record(number, "running", dict(trial.params), curve=curve)
        return values

    def _sample(self, number: int) -> None:
        # Each trial has its own seed, so a resumed sweep draws the same next trials, not the first ones again.
        seed = int(np.random.SeedSequence([self.options.seed, number]).generate_state(1)[0])
        kinds = self.optuna.samplers
        self._study.sampler = (kinds.TPESampler if self.options.sampler == "tpe" else kinds.RandomSampler)(seed=seed)

    def report(self, number: int, step: int, value: float) -> bool:
        """Reports an intermediate value to the pruner; returns whether the pruner would end the trial."""
        trial, curve = self._trials[number], self.running[number].curve
        if step not in curve:  # the value may be reported already, before the sweep was killed
            trial.report(value, step)
            curve[step] = value
        return trial.should_prune()

    def complete(self, number: int, parts: list[float]) -> None:
        """Ends a trial as done."""
        self._trials[number].set_user_attr("parts", parts)
        self._end(number, sum(parts) / len(parts))

    def prune(self, number: int) -> None:
        """Ends a trial as pruned."""
        self._end(number, state=self.optuna.trial.TrialState.PRUNED)

    def fail(self, number: int, error: str) -> None:
        """Ends a trial as failed, without a value."""
        self._trials[number].set_user_attr("error", error)
        self._end(number, state=self.optuna.trial.TrialState.FAIL)

    def _end(self, number: int, *value, **state) -> None:
        self.ended.append(_record(self._study.tell(number, *value, **state)))
        del self.running[number], self._trials[number]

    def records(self) -> list[Record]:
        """All trials that have begun, by number."""
        return sorted([*self.ended, *self.running.values()], key=lambda record: record.number)

    def logarithmic(self) -> set[str]:
        """The parameters that are drawn on a logarithmic scale."""
        drawn = [trial.distributions for trial in self._study.get_trials(deepcopy=False)]
        return {name for of_trial in drawn for name, domain in of_trial.items() if getattr(domain, "log", False)}

    def importances(self) -> dict[str, float]:
        """The share of the variance over trials that each single parameter explains; {} if fewer than ten are done.

        Includes only parameters that all trials have. fANOVA, Hutter et al. 2014, "An efficient approach for assessing
        hyperparameter importance", ICML.
        """
        done = [record for record in self.ended if record.status == "done"]
        if len(done) < ENOUGH or len({record.value for record in done}) < 2:
            return {}
        importance = self.optuna.importance
        forest = importance.FanovaImportanceEvaluator(seed=0)
        return {k: float(v) for k, v in importance.get_param_importances(self._study, evaluator=forest).items()}


def _record(trial) -> Record:
    """Converts an Optuna trial to a record."""
    words = {"COMPLETE": "done", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}
    return Record(
        trial.number,
        words[trial.state.name],
        dict(trial.params),
        trial.value,
        trial.user_attrs.get("parts", []),
        trial.user_attrs.get("error"),
        trial.duration and trial.duration.total_seconds(),
        dict(trial.intermediate_values),
    )


class Journal:
    """A journal for Optuna. Each line has a checksum; an incomplete last line, left by a kill, is dropped.

    Raises:
      WorkdirError: a line is damaged or missing, or the file cannot be written.
    """

    def __init__(self, file: Path):
        found = files.read_rows(file, lambda row: None)
        if found.damage:
            raise WorkdirError(f"{file}, {found.damage[0]}: {files.FIX}.")
        if found.torn:
            files.write_rows(file, found.rows)
            found = files.read_rows(file, lambda row: None)
        self._rows, self._file = found.rows, files.Appender(file, found)

    def read_logs(self, log_number_from: int) -> list[dict]:
        """Returns the rows from row number `log_number_from` on."""
        return self._rows[log_number_from:]

    def append_logs(self, logs: list[dict]) -> None:
        """Appends rows and syncs them to disk."""
        for log in logs:
            self._rows.append(json.loads(json.dumps(log)))
            self._file.write(log)
        self._file.sync()


def _pruner(optuna, name: str):
    pruners = optuna.pruners
    kinds = {"none": pruners.NopPruner, "median": pruners.MedianPruner, "halving": pruners.SuccessiveHalvingPruner}
    return kinds[name]()
