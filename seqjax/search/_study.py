"""The study of a sweep: Optuna's memory of what was tried, and its choice of what to try next."""

from pathlib import Path
from typing import Literal

import numpy as np

from seqjax import lookup
from seqjax.screen import hidden
from seqjax.search import space as spaces
from seqjax.search._records import Record
from seqjax.types import ConfigError

SAMPLERS = Literal["tpe", "random", "grid"]
PRUNERS = Literal["none", "median", "halving"]
ENOUGH = 10  # trials that say something about importance


class Study:
    """A study in a journal file, or in the database of a URL.

    It has one writer. Whatever it holds as running is therefore left over from one that was killed: `unfinished`.

    Raises:
      ConfigError: Optuna or scikit-learn is not installed (extra `sweep`), no such storage, a grid without end.
    """

    def __init__(self, journal: Path, storage: str | None, name: str, space: dict, maximize: bool,
                 sampler: SAMPLERS, pruner: PRUNERS, seed: int):  # fmt: skip
        self.optuna = optuna = lookup.require("optuna", "sweep", "seqjax sweep")
        lookup.require("sklearn", "sweep", "seqjax sweep")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.maximize = space, maximize
        self.grid = spaces.grid(space) if sampler == "grid" else None
        self._kind, self._seed = sampler, seed
        self._trials: dict = {}  # of the trials under way
        try:
            self._study = optuna.create_study(
                storage=_journal(optuna, journal) if storage is None else storage,
                study_name=name,
                direction="maximize" if maximize else "minimize",
                pruner=_pruner(optuna, pruner),
                load_if_exists=True,
            )
        except Exception as error:  # of the database's driver, whichever it is
            if storage is None:
                raise
            reason = hidden(storage, f"{type(error).__name__}: {error}")
            raise ConfigError(f"--storage {hidden(storage)}: {reason}") from error

    @property
    def count(self) -> int:
        """How many trials have begun."""
        return sum(t.state.name != "WAITING" for t in self._study.get_trials(deepcopy=False))

    def ask(self) -> tuple[int, dict]:
        """The number and the values of a new trial."""
        number = self.count
        self._sample(number)
        waiting = len(self._study.get_trials(deepcopy=False)) > number  # killed between the next two lines
        if self.grid is not None and not waiting:
            self._study.enqueue_trial(self.grid[number])
        trial = self._trials[number] = self._study.ask()
        return number, spaces.suggest(self.space, trial)

    def unfinished(self) -> list[tuple[int, dict]]:
        """The trials that had begun when the last writer was killed; what they had not drawn is drawn now."""
        found = []
        for number, trial in enumerate(self._study.get_trials(deepcopy=False)):
            if trial.state.name == "RUNNING":
                self._sample(number)
                self._trials[number] = self.optuna.trial.Trial(self._study, trial._trial_id)
                found.append((number, spaces.suggest(self.space, self._trials[number])))
        return found

    def _sample(self, number: int) -> None:
        # A seed for every trial: a resumed sweep draws what it would have drawn, not the first trials again.
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        samplers = self.optuna.samplers
        self._study.sampler = samplers.TPESampler(seed=seed) if self._kind == "tpe" else samplers.RandomSampler(seed)

    def report(self, number: int, step: int, value: float) -> bool:
        """Tells the pruner of a value on the way; returns whether it would end the trial."""
        trial = self._trials[number]
        if step not in self._study.get_trials(deepcopy=False)[number].intermediate_values:  # before it was killed
            trial.report(value, step)
        return trial.should_prune()

    def complete(self, number: int, parts: list[float]) -> None:
        """The trial is done."""
        self._trials[number].set_user_attr("parts", parts)
        self._study.tell(number, sum(parts) / len(parts))

    def prune(self, number: int) -> None:
        """The trial was not worth its time."""
        self._study.tell(number, state=self.optuna.trial.TrialState.PRUNED)

    def fail(self, number: int, error: str) -> None:
        """The trial has no value."""
        self._trials[number].set_user_attr("error", error)
        self._study.tell(number, state=self.optuna.trial.TrialState.FAIL)

    def records(self) -> list[Record]:
        """All trials that have begun, in order."""
        words = {"COMPLETE": "done", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}
        return [
            Record(
                trial.number,
                words[trial.state.name],
                dict(trial.params),
                trial.value,
                trial.user_attrs.get("parts", []),
                trial.user_attrs.get("error"),
                trial.duration and trial.duration.total_seconds(),
                dict(trial.intermediate_values),
            )
            for trial in self._study.get_trials(deepcopy=False)
            if trial.state.name != "WAITING"
        ]

    def values(self, number: int) -> dict:
        """Key -> value of a trial."""
        return spaces.suggest(self.space, self.optuna.trial.FixedTrial(self.records()[number].params))

    def importances(self) -> dict[str, float]:
        """The share of the variance over trials that each parameter explains alone; {} if fewer than ten are done.

        Only of parameters that all trials have. fANOVA, Hutter et al. 2014, "An efficient approach for assessing
        hyperparameter importance", ICML.
        """
        done = [record for record in self.records() if record.status == "done"]
        if len(done) < ENOUGH or len({record.value for record in done}) < 2:
            return {}
        importance = self.optuna.importance
        forest = importance.FanovaImportanceEvaluator(seed=0)
        return {k: float(v) for k, v in importance.get_param_importances(self._study, evaluator=forest).items()}


def _journal(optuna, file: Path):
    """The journal, without what a kill may have left: a lock, and half a line."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    file.with_name(f"{file.name}.lock").unlink(missing_ok=True)
    if file.exists() and (whole := file.read_bytes()) and not whole.endswith(b"\n"):
        file.write_bytes(whole[: whole.rfind(b"\n") + 1])
    return JournalStorage(JournalFileBackend(str(file)))


def _pruner(optuna, name: PRUNERS):
    pruners = optuna.pruners
    kinds = {"none": pruners.NopPruner, "median": pruners.MedianPruner, "halving": pruners.SuccessiveHalvingPruner}
    return kinds[name]()
