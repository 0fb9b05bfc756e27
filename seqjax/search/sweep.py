"""A sweep: trials of one config with different values. A sampler chooses the values; a pruner ends bad trials early.

    sweep.json      the config, the space and the options; a sweep with other ones needs another folder
    study.journal   the trials so far, unless --storage names a database
    trials/0007/    the run of a trial; with folds or seeds trials/0007/fold-0/, ..., each with its .json and .log
    best.json       the config of the best trial: a valid --config

Trials are judged by the best validation value of `task.monitor`, which is also how the trainer picks its best
checkpoint. The test split is never used. A sweep that was killed is resumed by the same command. With --storage, the
same command once more, here or on another machine that shares the folder, works on the same trials.
"""

import collections
import json
import math
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from seqjax import config
from seqjax.screen import hidden
from seqjax.search import space as spaces
from seqjax.search import trials
from seqjax.search._build import Builder
from seqjax.search._claims import Claims
from seqjax.search._records import Summary
from seqjax.search._study import TRIALS, Options, Study
from seqjax.search.executors._base import Executor
from seqjax.search.trials import Outcome, Trial
from seqjax.training import evaluate, experiment
from seqjax.training.files import FIX
from seqjax.training.workdir import Workdir
from seqjax.types import ConfigError, WorkdirError, refuse


class Sweep:
    """Searches `space`, whose values override the resolved config `base`, in a folder.

    Raises:
      ConfigError: the space does not fit the config, some models cannot be built, or the folder holds another sweep.
      WorkdirError: another process works in the folder.
    """

    def __init__(self, base: dict, space: dict[str, spaces.Domain], options: Options, folder: str | Path):
        spaces.check(base, space)
        self.base, self.space, self.options = base, space, options
        self.monitor = base["task"]["monitor"]
        self.runs = (options.folds or 1) * options.seeds  # of one trial
        self._check()
        self._builder = Builder()
        if not (Path(folder) / "sweep.json").exists():  # no check for a sweep that is resumed
            self._check_models()
        self.workdir = Workdir(folder).lock(shared=options.storage is not None)
        about = {"config": base, "space": {key: str(domain) for key, domain in space.items()}}
        about |= {key: getattr(options, key) for key in ("sampler", "folds", "seeds", "seed")}
        about["storage"] = options.storage and hidden(options.storage)
        with Claims(self.workdir.path).turn():  # of several processes that start at once, the first names the study
            journal, name = self.workdir.path / "study.journal", self._name(about)
            self.study = Study(journal, name, space, self.way == "more", options)
        points = len(self.study.grid) if self.study.grid else None
        self.trials = min(options.trials or points or TRIALS, points or math.inf)
        self._values = collections.defaultdict(dict)  # trials: number -> part -> value
        self._parts: dict[Path, tuple[int, int]] = {}  # active runs: folder -> trial, part
        self._seen: dict[Path, Outcome] = {}  # active runs: folder -> last outcome
        self._pruned: set[int] = set()

    def _check(self) -> None:
        """Reports problems at once that would otherwise appear only when the first trial has ended."""
        tree = self._part(self.base, 0)
        source = config.build(experiment.PARTS["data"], tree["data"], "data")
        task = config.build(experiment.PARTS["task"], tree["task"], "task", spec=source.spec)
        self.way = evaluate.metrics(tree, task)[task.monitor]
        if "validation" not in source.spec.splits:
            raise ConfigError(f"data.name={tree['data']['name']!r} has no validation split to judge trials by.")
        if self.options.pruner != "none" and self.runs == 1 and not tree["train"]["eval_every"]:
            raise ConfigError(f"--pruner {self.options.pruner} needs validation during training: set train.eval_every.")

    def _check_models(self) -> None:
        """Builds the models of all trials of a grid; for other samplers, the models at every end of every domain."""
        tried, what = spaces.ends(self.space), "combinations of the ends of domains"
        if self.options.sampler == "grid":
            points, what = spaces.grid(self.space)[: self.options.trials], "trials of the grid"
            tried = [spaces.values(self.space, point) for point in points]
        problems = []
        for values in tried:
            try:
                self._configs(values)
            except ConfigError as error:
                name = ", ".join(f"{key}={value!r}" for key, value in values.items())
                problems.append(f"{name}: {' '.join(str(error).split())}")
        refuse(problems, f"{len(tried)} {what}, to be taken out of the search space")

    def _name(self, about: dict) -> str:
        """The name of the study. The first start writes it to sweep.json; later starts must have the same options."""
        about = json.loads(json.dumps(about))
        held = self.workdir.read("sweep.json")
        if held is None:
            if os.path.lexists(self.workdir.path / "study.journal"):
                raise WorkdirError(
                    f"{self.workdir.path} has a study.journal but no sweep.json, which describes the search: restore "
                    "it, or choose another --workdir."
                )
            held = {"study": f"{self.workdir.path.name}-{uuid.uuid4().hex[:8]}", **about}
            self.workdir.write("sweep.json", held)
        if not isinstance(held.get("study"), str):
            raise WorkdirError(f"{self.workdir.path / 'sweep.json'} does not name a study: {FIX}.")
        held["config"] = experiment.today(held.get("config") or {})
        trials.check_same(held, {"study": held["study"], **about}, f"{self.workdir.path} holds another sweep")
        return held["study"]

    def _configs(self, values: dict) -> list[dict]:
        """The configs of the runs of a trial. Raises ConfigError if its model cannot be built."""
        tree = spaces.with_values(self.base, values)
        configs = [self._part(tree, part) for part in range(self.runs)]
        if why := self._builder.problem(configs[0]):
            raise ConfigError(why)
        return configs

    def _part(self, tree: dict, part: int) -> dict:
        """The config of one run of a trial."""
        seed, fold = divmod(part, self.options.folds or 1)
        tree = tree | {"seed": tree["seed"] + seed}
        if self.options.folds:
            cut = {"folds": self.options.folds, "fold": fold, "seed": self.options.seed}
            tree = tree | {"data": {"name": "folds", "of": tree["data"], **cut}}
        return experiment.resolve(tree)

    def _folder(self, number: int, part: int) -> Path:
        seed, fold = divmod(part, self.options.folds or 1)
        words = [f"seed-{seed}"] * (self.options.seeds > 1) + [f"fold-{fold}"] * bool(self.options.folds)
        folder = self.workdir.path / "trials" / f"{number:04}"
        return folder / "-".join(words) if words else folder

    def run(self, executor: Executor, *, on_look: Callable[[], None] = lambda: None, command=trials.command) -> None:
        """Runs all trials that have not ended yet; see `trials.run`."""
        done, stop = self._done, self._stop
        check = self.workdir.check
        trials.run(self._left(), executor, on_done=done, stop=stop, on_look=on_look, check=check, command=command)

    def _left(self) -> Iterator[Trial]:
        while begun := self.study.next(self.trials):
            yield from self._begin(*begun)

    def _begin(self, number: int, values: dict) -> Iterator[Trial]:
        try:
            parts = [Trial(self._folder(number, part), tree) for part, tree in enumerate(self._configs(values))]
        except ConfigError as error:
            self.study.fail(number, str(error))
            return
        for part, trial in enumerate(parts):
            if number not in self.study.running:  # one of its runs has failed, or it is pruned
                return
            self._parts[trial.folder] = number, part
            yield trial

    def _stop(self, trial: Trial) -> bool:
        number, _ = self._parts[trial.folder]
        if self._report(trial, trials.outcome(trial)):
            self._pruned.add(number)
        return number in self._pruned or number not in self.study.running

    def _report(self, trial: Trial, found: Outcome) -> bool:
        """Reports the new rows to the pruner; returns whether the pruner would end the trial."""
        number, _ = self._parts[trial.folder]
        seen, self._seen[trial.folder] = self._seen.get(trial.folder, Outcome()), found
        if self.options.pruner == "none" or self.runs > 1:
            return False
        new = [(row["step"], row.get(self.monitor, math.nan)) for row in found.rows[len(seen.rows) :]]
        return any([self.study.report(number, step, value) for step, value in new])

    def _done(self, trial: Trial, found: Outcome) -> None:
        number = self._parts[trial.folder][0]
        if number in self.study.running:
            self._report(trial, found)  # the pruner compares later trials with it
            self._close(trial, found)
        del self._parts[trial.folder]
        self._seen.pop(trial.folder, None)

    def _close(self, trial: Trial, found: Outcome) -> None:
        number, part = self._parts[trial.folder]
        name = f"{trial.folder.name}: " if self.runs > 1 else ""
        value = found.best(self.monitor, self.way)
        if found.status == "preempted" and number in self._pruned:
            self.study.prune(number)
        elif found.status != "done":
            self.study.fail(number, name + (found.error or f"{found.status} too often"))
        elif value is None:
            self.study.fail(number, f"{name}{self.monitor} was never finite on validation")
        else:
            self._values[number][part] = value
            self._count(number)

    def _count(self, number: int) -> None:
        """Counts a finished run of a trial: the last completes it, else the pruner gets the mean if no gap is left."""
        values = [value for _, value in sorted(self._values[number].items())]
        mean, whole = sum(values) / len(values), set(self._values[number]) == set(range(len(values)))
        if len(values) == self.runs:
            self.study.complete(number, values)
        elif self.options.pruner != "none" and whole and self.study.report(number, len(values), mean):
            self.study.prune(number)

    def under_way(self, number: int) -> tuple[int, float | None]:
        """The step that a running trial has reached, and its best value so far."""
        seen = [self._seen[folder] for folder, (n, _) in self._parts.items() if n == number and folder in self._seen]
        values = [value for outcome in seen if (value := outcome.best(self.monitor, self.way)) is not None]
        best = max if self.way == "more" else min
        return max((outcome.step for outcome in seen), default=0), best(values, default=None)

    def summary(self) -> Summary:
        """Returns the results so far; writes best.json if a trial is done."""
        self.study.read()
        data, task, o = self.base["data"]["name"], self.base["task"]["name"], self.options
        means = [f"{o.folds} folds"] * bool(o.folds) + [f"{o.seeds} seeds"] * (o.seeds > 1)
        found = Summary(
            folder=self.workdir.path,
            problem=f"{task} on {data}, judged by {self.monitor}",
            monitor=self.monitor,
            way=self.way,
            how=", ".join([f"sampler {o.sampler}", f"pruner {o.pruner}", *(f"mean over {m}" for m in means)]),
            records=self.study.records(),
            importances=self.study.importances(),
            logarithmic=self.study.logarithmic(),
        )
        if found.best:
            values = spaces.values(self.space, found.best.params)
            self.workdir.write("best.json", spaces.with_values(self.base, values))
        return found
