"""Reads and checks a comparison file, and plans the runs that it asks for.

    {"base": a config, "contenders": {name: overrides}, "vary": {"data.length": [64, 128]}, "match": "params", ...}

Nothing here trains. A plan lists the runs and their folders, whose names say which run they hold.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from seqjax import config, lookup, renamed, words
from seqjax.search import _checks
from seqjax.search._build import Builder
from seqjax.search.executors.local import Local
from seqjax.search.match import narrowest, sized_by
from seqjax.search.trials import Trial
from seqjax.training import capacity, experiment
from seqjax.types import Checked, ConfigError, Part, Positive, Seed, refuse

SETTING = "setting"  # what varies if `vary` names settings
NONE = 0.0  # stands for the learning rate of a learner without an optimiser


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison(Checked):
    """Contenders on one source and task, each with its own best learning rate, on the same seeds and batches.

    `base` is a config. Each of `contenders` overrides some of its keys: {"gru": {"model.mixer": {"name": "gru"}}}.
    `vary`: one key and its values (lengths, sizes), or settings by name, each with its overrides: {"parity":
    {"data.name": "parity"}, ...}; the whole comparison is repeated at each value or setting. `match`: a
    quantity; `model.width` (of an `hmm` `model.states`, of a `markov` `model.order`) is solved so that it comes within
    `tolerance` of `target`, which is a number or the name of a contender, whose width stays unchanged.
    `learning_rates`: peak learning rates, one list or one per contender; the rate with the best mean of the validation
    monitor over `learning_rate_seeds` is chosen. If it is at an edge of the grid, the grid is extended there, at most
    twice. A learner without an optimiser has no rate. `seeds` train at the chosen rate and are judged by `metric` on
    test (None: the task's monitor). `extrapolate`: one key of data and its values, at which trained runs are also
    evaluated; if `vary` names settings, setting -> such a key and its values.
    """

    base: dict
    contenders: dict
    vary: dict | None = None
    match: Literal["params", "param_bytes", "flops", "state_bytes", "step_time"] | None = None
    target: Positive | str | None = None
    tolerance: Positive = 0.02
    learning_rates: list | dict
    learning_rate_seeds: list[Seed] = dataclasses.field(default_factory=lambda: [0])
    seeds: list[Seed] = dataclasses.field(default_factory=lambda: [0, 1, 2])
    metric: str | None = None
    extrapolate: dict | None = None
    executor: Annotated[Callable, Part("seqjax.search.executors", "Executor")] = Local

    @property
    def named(self) -> bool:
        """Whether `vary` names settings."""
        return bool(self.vary) and all(isinstance(changes, dict) for changes in self.vary.values())

    @property
    def axis(self) -> str | None:
        """The key that varies, "setting", or None."""
        return SETTING if self.named else next(iter(self.vary)) if self.vary else None

    @property
    def values(self) -> list:
        """The values of the key that varies, or the names of the settings; [None] if nothing varies."""
        return list(self.vary) if self.named else self.vary[self.axis] if self.vary else [None]

    def changes(self, value) -> dict:
        """The overrides that a value or a setting stands for."""
        return {} if value is None else self.vary[value] if self.named else {self.axis: value}

    def away(self, value) -> tuple[str | None, dict[Any, str]]:
        """The key of `extrapolate` at a value of `vary`, or None; and other value -> assignment, `data.length=64`."""
        extrapolate = (self.extrapolate or {}).get(value) if self.named else self.extrapolate
        key, values = next(iter((extrapolate or {None: []}).items()))
        return key, {v: f"{key}={v}" for v in values}

    def grid(self, contender: str) -> list[float]:
        """The learning rates of a contender, in order."""
        return sorted(self.learning_rates[contender] if isinstance(self.learning_rates, dict) else self.learning_rates)

    def tree(self, contender: str, value) -> dict:
        """The config of a contender at a value as the file gives it: without defaults and learning rate."""
        return config.override(self.base, dict(self.contenders[contender]) | self.changes(value))


@dataclasses.dataclass(frozen=True)
class Entry:
    """One contender at one value of the key that varies; `config` is resolved and has the solved width.

    `index`: the position of the contender in the comparison, which decides how it is drawn.
    """

    index: int
    name: str
    axis: str | None
    value: Any
    config: dict

    @property
    def folder(self) -> Path:
        """The folder of its runs: `gru`, or `gru/length-64`."""
        if self.axis is None:
            return Path(self.name)
        return Path(self.name) / f"{self.axis.split('.')[-1]}-{_checks.slug(self.value)}"

    @property
    def optimises(self) -> bool:
        """Whether its learner has an optimiser, and so a learning rate."""
        return lookup.find(self.config["learner"]["name"], "seqjax.training.learners", "Learner").optimises

    def rates(self, grid: list[float]) -> list[float]:
        """The learning rates that are tried: those of the file, or only `NONE` without an optimiser."""
        return grid if self.optimises else [NONE]

    @property
    def width(self) -> str:
        """The option that decides its size, for tables: the width of a stack, or `states 64`."""
        name = sized_by(self.config)
        value = self.config["model"].get(name, "none")
        return str(value) if name == "width" else f"{name} {value}"

    def get(self, key: str):
        """The value of a key of its config."""
        return functools.reduce(lambda tree, part: tree[part], key.split("."), self.config)

    def trial(self, root: Path, rate: float, seed: int) -> Trial:
        """One run: `<root>/runs/gru/length-64/rate-0.003/seed-0`; a learner without an optimiser is given no rate."""
        optim = {**self.config["optim"], **({"learning_rate": rate} if self.optimises else {})}
        tree = {**self.config, "seed": seed, "optim": optim}
        return Trial(root / "runs" / self.folder / f"rate-{_checks.rate_name(rate)}" / f"seed-{seed}", tree)


def settled(tree: dict) -> dict:
    """The tree of a comparison file with its command-line words parsed, also the words in its base."""
    tree = renamed.modern(tree)
    base = words.settled(experiment.Schema, tree.get("base"))
    return words.settled(Comparison, {**tree, "base": base} if "base" in tree else tree)


def resolve(tree: dict) -> Comparison:
    """Makes a comparison from the tree of its file. Raises ConfigError, which lists the problems of all its configs."""
    comparison = config.made(Comparison, config.resolve(Comparison, renamed.modern(tree)))
    refuse([*_checks.problems(comparison)] or [*_broken(comparison)], "the comparison")
    return comparison


def _broken(c: Comparison):
    """The problems of the configs."""
    build = Builder()
    for value in c.values:
        for i, name in enumerate(c.contenders):
            try:
                tree = experiment.resolve(c.tree(name, value))
                if c.match is None or c.target == name:
                    build(tree)
                if i == 0:
                    yield from _unjudged(config.build(experiment.PARTS["data"], tree["data"], "data"))
            except ConfigError as error:
                yield f"contenders.{name}{'' if value is None else f' at {c.axis}={value}'}: {error}"


def _unjudged(source):
    """The splits that a comparison needs and the source lacks: validation and test."""
    for split in ("validation", "test"):
        if split not in source.spec.splits or not source.size(split):
            has = ", ".join(s for s in source.spec.splits if source.size(s))
            yield f"data has no {split} split of a fixed size, but a comparison needs one: it has {has or 'none'}."


def fitted(c: Comparison, name: str, value, build: Callable[[dict], experiment.Experiment]) -> dict:
    """A resolved config whose caches have the capacity that the task needs; unchanged if the task carries state.

    If the width is still to be solved, the width in the config may be one that the model does not accept.
    """
    given = c.tree(name, value)
    tree = experiment.resolve(given)
    if tree["task"].get("carry_state"):
        return tree
    open_width = c.match is not None and name != c.target
    slots = capacity.tokens_read(build(narrowest(tree, build) if open_width else tree))
    return {**tree, "model": capacity.fitted(tree["model"], slots, given["model"])}
