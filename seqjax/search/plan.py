"""Reads and checks a comparison file, and plans the runs that it asks for.

    {"base": a config, "contenders": {name: overrides}, "vary": {"data.length": [64, 128]}, "match": "params", ...}

Nothing here trains. A plan lists the runs and their folders, whose names say which run they hold.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from seqjax import config, lookup, renamed, words
from seqjax.search._build import Builder
from seqjax.search.executors.local import Local
from seqjax.search.match import narrowest
from seqjax.search.trials import Trial
from seqjax.training import capacity, experiment
from seqjax.types import Checked, ConfigError, Part, Positive, Seed, refuse

LEAST_SEEDS = 3
NAME = re.compile(r"[\w+-][\w+.-]*")  # of a contender; it is also the name of a folder
SEARCHED = {"seed": "seeds", "optim.learning_rate": "learning_rates"}  # keys that a comparison sets itself
SHARED = ("data", "task", "loader")  # sections in which contenders may not differ
OWN = "task.head."  # except these keys, which are options of the model


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison(Checked):
    """Contenders on one source and task, each with its own best learning rate, on the same seeds and batches.

    `base` is a config. Each of `contenders` overrides some of its keys: {"gru": {"model.mixer": {"name": "gru"}}}.
    `vary`: one key and its values (lengths, sizes); the whole comparison is repeated at each value. `match`: a
    quantity; `model.width` is solved so that it comes within `tolerance` of `target`, which is a number or the name of
    a contender, whose width stays unchanged. `learning_rates`: peak learning rates, one list or one per contender; the
    rate with the best mean of the validation monitor over `learning_rate_seeds` is chosen. If it is at an edge of the
    grid, the grid is extended there, at most twice. `seeds` train at the chosen rate and are judged by `metric` on
    test (None: the task's monitor). `extrapolate`: one key of data and its values, at which trained runs are also
    evaluated.
    """

    base: dict
    contenders: dict
    vary: dict | None = None
    match: Literal["params", "flops", "state_bytes", "step_time"] | None = None
    target: Positive | str | None = None
    tolerance: Positive = 0.02
    learning_rates: list | dict
    learning_rate_seeds: list[Seed] = dataclasses.field(default_factory=lambda: [0])
    seeds: list[Seed] = dataclasses.field(default_factory=lambda: [0, 1, 2])
    metric: str | None = None
    extrapolate: dict | None = None
    executor: Annotated[Callable, Part("seqjax.search.executors", "Executor")] = Local

    @property
    def axis(self) -> str | None:
        """The key that varies, or None."""
        return next(iter(self.vary)) if self.vary else None

    @property
    def values(self) -> list:
        """The values of the key that varies; [None] if no key varies."""
        return self.vary[self.axis] if self.vary else [None]

    @property
    def judged_at(self) -> dict[Any, str]:
        """Value -> assignment (`data.length=64`), for every value of `extrapolate`."""
        return {v: f"{key}={v}" for key, values in (self.extrapolate or {}).items() for v in values}

    def grid(self, contender: str) -> list[float]:
        """The learning rates of a contender, in order."""
        return sorted(self.learning_rates[contender] if isinstance(self.learning_rates, dict) else self.learning_rates)

    def tree(self, contender: str, value) -> dict:
        """The config of a contender at a value as the file gives it: without defaults and learning rate."""
        changes = dict(self.contenders[contender]) | ({} if value is None else {self.axis: value})
        return config.override(self.base, changes)


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
        return Path(self.name) / f"{self.axis.split('.')[-1]}-{_slug(self.value)}"

    def get(self, key: str):
        """The value of a key of its config."""
        return functools.reduce(lambda tree, part: tree[part], key.split("."), self.config)

    def trial(self, root: Path, rate: float, seed: int) -> Trial:
        """One run: `<root>/runs/gru/length-64/rate-0.003/seed-0`; a learner without an optimiser is given no rate."""
        learner = lookup.find(self.config["learner"]["name"], "seqjax.training.learners", "Learner")
        optim = {**self.config["optim"], **({"learning_rate": rate} if learner.optimises else {})}
        tree = {**self.config, "seed": seed, "optim": optim}
        return Trial(root / "runs" / self.folder / f"rate-{_rate(rate)}" / f"seed-{seed}", tree)


def settled(tree: dict) -> dict:
    """The tree of a comparison file with its command-line words parsed, also the words in its base."""
    tree = renamed.modern(tree)
    base = words.settled(experiment.Schema, tree.get("base"))
    return words.settled(Comparison, {**tree, "base": base} if "base" in tree else tree)


def resolve(tree: dict) -> Comparison:
    """Makes a comparison from the tree of its file. Raises ConfigError, which lists the problems of all its configs."""
    comparison = config.made(Comparison, config.resolve(Comparison, renamed.modern(tree)))
    refuse([*_problems(comparison)] or [*_broken(comparison)], "the comparison")
    return comparison


def _problems(c: Comparison):
    """The contradictions in a comparison."""
    if len(c.contenders) < 2:
        yield f"contenders: got {len(c.contenders)}, wanted at least two."
    for name, changes in c.contenders.items():
        if not NAME.fullmatch(name):
            yield f"contenders: {name!r} also names a folder, wanted only letters, digits and + . - _"
        if not isinstance(changes, dict):
            yield f"contenders.{name}: got {changes!r}, wanted overrides such as {{'model.mixer.name': 'gru'}}."
    for key, where in (("vary", c.vary), ("extrapolate", c.extrapolate)):
        if where is not None and not (len(where) == 1 and _distinct(next(iter(where.values())), 1, _slug)):
            yield (
                f"{key}: got {where!r}, wanted one key and a list of different numbers or words, such as "
                "{'data.length': [64, 128]}."
            )
    if c.extrapolate and not next(iter(c.extrapolate)).startswith("data."):
        yield f"extrapolate: got {next(iter(c.extrapolate))!r}, wanted a key of data: the model is not trained again."
    if (c.match is None) != (c.target is None):
        yield f"match={c.match!r} and target={c.target!r}: set both, or neither."
    if isinstance(c.target, str) and c.target not in c.contenders:
        near = lookup.nearest(c.target, c.contenders)
        yield f"target={c.target!r} is not a contender.{near} Choose one of {', '.join(c.contenders)}, or a number."
    yield from _of_rates(c)
    for key, least in (("seeds", LEAST_SEEDS), ("learning_rate_seeds", 1)):
        if not _distinct(getattr(c, key), least):
            yield f"{key}: got {getattr(c, key)!r}, wanted at least {least} different seeds."
    contenders = {f"contenders.{name}": changes for name, changes in c.contenders.items() if isinstance(changes, dict)}
    for where, changes in {"base": c.base, "vary": c.vary or {}, **contenders}.items():
        for key, owner in SEARCHED.items():
            if _sets(changes, key):
                yield f"{where} sets {key}, but the comparison sets it from {owner}: remove it."
    for where, changes in contenders.items():
        if c.vary and _sets(changes, c.axis):
            yield f"{where} sets {c.axis}, but vary sets it for all contenders: remove it from one of the two."
        for section in SHARED:
            if _sets({key: value for key, value in changes.items() if not f"{key}.".startswith(OWN)}, section):
                yield f"{where} sets keys of {section}, which must be equal for all contenders: set them in base."


def _of_rates(c: Comparison):
    if isinstance(c.learning_rates, dict) and set(c.learning_rates) != set(c.contenders):
        got, wanted = ", ".join(c.learning_rates) or "no contender", ", ".join(c.contenders)
        yield f"learning_rates: got lists for {got}, wanted one for each of {wanted}."
    for rates in c.learning_rates.values() if isinstance(c.learning_rates, dict) else [c.learning_rates]:
        numbers = isinstance(rates, (list, tuple)) and all(type(r) in (int, float) and 0 < r < math.inf for r in rates)
        if not numbers or not _distinct(rates, 2, _rate):
            yield f"learning_rates: got {rates!r}, wanted at least two rates above 0 that differ in six digits."


def _distinct(values, least: int, name: Callable = str) -> bool:
    """Whether `values` is a list of at least `least` values with different folder names."""
    if not isinstance(values, (list, tuple)) or any(isinstance(v, (dict, list, tuple)) for v in values):
        return False
    return len(set(map(name, values))) == len(values) >= least


def _rate(value: float) -> str:
    """A learning rate as part of a folder's name."""
    return f"{value:g}"


def _slug(value) -> str:
    """A value as part of a folder's name."""
    return re.sub(r"[^\w+.-]+", "-", str(value))


def _sets(changes: dict, key: str) -> bool:
    """Whether overrides, whose keys may have dots, set a key or a key under it."""
    for path, value in changes.items():
        if path == key or path.startswith(f"{key}."):
            return True
        if key.startswith(f"{path}.") and isinstance(value, dict) and _sets(value, key[len(path) + 1 :]):
            return True
    return False


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
