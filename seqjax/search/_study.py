"""The study of a sweep: Optuna's record of the past trials, and its choice of the next one."""

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from seqjax import lookup
from seqjax.screen import hidden
from seqjax.search import space as spaces
from seqjax.search._claims import Claims
from seqjax.search._records import Record
from seqjax.training import files
from seqjax.types import Checked, ConfigError, Count, Range, Seed, SeqjaxError, WorkdirError

TRIALS = 20  # the default number of trials
ENOUGH = 10  # trials needed for an estimate of importance


@dataclasses.dataclass(frozen=True)
class Options(Checked):
    """How to search. A trial is one run, or one run per fold and seed, judged by their mean.

    `trials` None: 20, or the whole grid. `seed` decides which values are drawn, and how train and validation are
    divided into folds (`seqjax.data.folds`). `seeds` is the number of seeds; the first is the seed of the config.
    `storage`: the URL of a database, which several processes may share; None: a journal file, for one process.
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

    A journal has one writer, and is read once. A database may have several: each works on the trials that it claimed,
    and reads what the others did when it asks for the next one. A trial that is stored as running, but that no process
    claims, is left over from one that was killed: the next that asks goes on with it. `running` (by number) and `ended`
    (in the order in which their ends became known) are the trials of all.

    Raises:
      ConfigError: Optuna or scikit-learn is not installed (extra `sweep`), an infinite grid, or the storage does not
        exist or does not answer.
    """

    def __init__(self, journal: Path, name: str, space: dict, maximize: bool, options: Options):
        self.optuna = optuna = lookup.require("optuna", "sweep", "seqjax sweep")
        lookup.require("sklearn", "sweep", "seqjax sweep")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.options, storage = space, options, options.storage
        self.grid = spaces.grid(space) if options.sampler == "grid" else None
        self._trials: dict = {}  # Optuna trials that are running
        pruners = optuna.pruners
        kinds = {"none": pruners.NopPruner, "median": pruners.MedianPruner, "halving": pruners.SuccessiveHalvingPruner}
        self._claims = Claims(journal.parent)
        with self._reached():
            self._study = optuna.create_study(
                storage=optuna.storages.JournalStorage(Journal(journal)) if storage is None else self._database(),
                study_name=name,
                direction="maximize" if maximize else "minimize",
                pruner=kinds[options.pruner](),
                load_if_exists=True,
            )
        self.running: dict[int, Record] = {}
        self.ended: list[Record] = []
        self._read()

    def _database(self):
        """The storage of a URL. A connection that the server has closed is opened again."""
        if self.options.storage.startswith(("postgresql:", "postgresql+psycopg:")):
            lookup.require("psycopg", "postgres", "--storage postgresql://...")
        return self.optuna.storages.RDBStorage(self.options.storage, engine_kwargs={"pool_pre_ping": True})

    @contextlib.contextmanager
    def _reached(self):
        """Tells in a sentence, and without its password, what is wrong with a database."""
        try:
            yield
        except SeqjaxError:
            raise
        except Exception as error:  # each database driver has its own exception types
            if (storage := self.options.storage) is None:
                raise
            cause = error.__cause__ or error
            said = " ".join(str(cause).partition("\n(Background on")[0].partition("\n[SQL:")[0].split())
            reason = hidden(storage, f"{type(error).__name__}: {said}")
            raise ConfigError(f"--storage {hidden(storage)}: {reason}") from None  # the error may hold the password

    @contextlib.contextmanager
    def _turn(self):
        with self._claims.turn(), self._reached():
            yield

    def read(self) -> None:
        """Reads what other processes did, if others can write to this study."""
        if self.options.storage is not None:
            with self._turn():
                self._read()

    def _read(self) -> None:
        known = {record.number for record in self.ended}
        held = [trial for trial in self._study.get_trials(deepcopy=False) if trial.number not in known]
        self._waiting = any(trial.state.name == "WAITING" for trial in held)  # enqueued, but not asked for: a kill
        self._keys = {trial.number: trial._trial_id for trial in held if trial.state.name == "RUNNING"}
        for trial in held:
            if trial.number in self._keys:
                self.running.setdefault(trial.number, _record(trial))
            elif trial.state.name != "WAITING":
                self.running.pop(trial.number, None)
                self.ended.append(_record(trial))

    @property
    def count(self) -> int:
        """How many trials have begun."""
        return len(self.running) + len(self.ended)

    def next(self, most: int) -> tuple[int, dict] | None:
        """Returns the number and the values of a trial for this process: one that was left over, or a new one.

        None: `most` trials have begun, and each has ended or has its process.
        """
        with self._turn():
            if self.options.storage is not None:
                self._read()
            for number in [number for number in self._keys if number not in self._trials]:
                if self._claims.take(number):
                    self._sample(number)
                    trial = self.optuna.trial.Trial(self._study, self._keys.pop(number))
                    return number, self._draw(number, trial, self.running[number].curve)
            return self._ask() if self.count < most else None

    def _ask(self) -> tuple[int, dict]:
        number = self.count
        self._claims.take(number)
        self._sample(number)
        if self.grid is not None and not self._waiting:
            self._study.enqueue_trial(self.grid[number])
        self._waiting = False
        return number, self._draw(number, self._study.ask(), {})

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
            with self._reached():
                trial.report(value, step)
            curve[step] = value
        with self._reached():
            return trial.should_prune()

    def complete(self, number: int, parts: list[float]) -> None:
        """Ends a trial as done."""
        self._end(number, sum(parts) / len(parts), parts=parts)

    def prune(self, number: int) -> None:
        """Ends a trial as pruned."""
        self._end(number, state=self.optuna.trial.TrialState.PRUNED)

    def fail(self, number: int, error: str) -> None:
        """Ends a trial as failed, without a value."""
        self._end(number, state=self.optuna.trial.TrialState.FAIL, error=error)

    def _end(self, number: int, value: float | None = None, state=None, **attributes) -> None:
        with self._turn():
            for key, attribute in attributes.items():
                self._trials[number].set_user_attr(key, attribute)
            self.ended.append(_record(self._study.tell(number, value, state)))
            self._claims.drop(number)
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
        self._rows, self._file = found.rows, files.Appender(file, found, found.rows)

    def read_logs(self, log_number_from: int) -> list[dict]:
        """Returns the rows from row number `log_number_from` on."""
        return self._rows[log_number_from:]

    def append_logs(self, logs: list[dict]) -> None:
        """Appends rows and syncs them to disk."""
        for log in logs:
            self._rows.append(json.loads(json.dumps(log)))
            self._file.write(log)
        self._file.sync()
