"""Search spaces, written in a config file beside `get_config`:

    def sweep():
        return {
            "optim.peak": log(1e-4, 1e-1),
            "model.width": choice(64, 128),
            "model.layers": integers(1, 4),
            "model.dropout": uniform(0, 0.5),
            "model.mixer": choice("gru", dict(name="attention", heads=choice(2, 4))),
        }

A choice may be a whole section, and hold domains of its own: they are searched only where it is chosen.
"""

import dataclasses
import itertools
import json
import math
import runpy
from pathlib import Path
from typing import Literal

from seqjax import config, lookup
from seqjax.training import experiment
from seqjax.types import Checked, ConfigError

MOST = 100_000  # points of a grid


@dataclasses.dataclass(frozen=True)
class Interval(Checked):
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float
    kind: Literal["uniform", "log", "integers"]

    def __post_init__(self):
        super().__post_init__()
        if self.kind == "integers" and not all(isinstance(end, int) for end in (self.low, self.high)):
            raise ValueError(f"{self}: both ends must be whole numbers.")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"{self} is empty or endless: wanted low < high.")
        if self.kind == "log" and self.low <= 0:
            raise ValueError(f"{self} has no logarithm: wanted 0 < low.")

    def __str__(self) -> str:
        return f"{self.kind}({self.low!r}, {self.high!r})"

    def suggest(self, trial, name: str):
        """A value, drawn by an Optuna trial under this name."""
        if self.kind == "integers":
            return trial.suggest_int(name, self.low, self.high)
        return trial.suggest_float(name, self.low, self.high, log=self.kind == "log")

    def points(self, name: str) -> list[dict]:
        """The parameters of a trial, for every value.

        Raises:
          ConfigError: there is no end of them.
        """
        if self.kind != "integers":
            raise ConfigError(f"{name}: a grid has no points in {self}; write choice(...), or use another --sampler.")
        return [{name: value} for value in range(self.low, self.high + 1)]

    @property
    def ends(self) -> list:
        """If a config takes these, it takes what is between."""
        return [self.low, self.high]


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of some values, each known by a label: itself, the name of a section, or its JSON."""

    values: tuple

    def __post_init__(self):
        if len(self.values) < 2 or len(set(self.labels)) < len(self.values):
            raise ValueError(f"{self}: wanted at least two values, all different.")

    def __str__(self) -> str:
        return f"choice({', '.join(map(repr, self.labels))})"

    @property
    def labels(self) -> list:
        """What stands for the values in a study, which knows numbers and words only."""
        names = [value.get("name") if isinstance(value, dict) else value for value in self.values]
        known = lambda name: isinstance(name, str) and names.count(name) == 1
        return [
            json.dumps(value, default=str) if isinstance(value, (dict, list)) and not known(name) else name
            for value, name in zip(self.values, names, strict=True)
        ]

    def suggest(self, trial, name: str):
        """A value, drawn by an Optuna trial under this name."""
        labels = self.labels
        label = trial.suggest_categorical(name, labels)
        return _suggest(self.values[labels.index(label)], trial, f"{name}({label})")

    def points(self, name: str) -> list[dict]:
        """The parameters of a trial, for every value.

        Raises:
          ConfigError: there is no end of them.
        """
        pairs = zip(self.labels, self.values, strict=True)
        return [{name: label} | inner for label, value in pairs for inner in _points(value, f"{name}({label})")]

    @property
    def ends(self) -> list:
        """If a config takes these, it takes what is between."""
        return [end for value in self.values for end in _ends(value)]


Domain = Interval | Choice


def uniform(low: float, high: float) -> Interval:
    """Numbers between two, all equally likely."""
    return Interval(low, high, "uniform")


def log(low: float, high: float) -> Interval:
    """Numbers between two positive ones, all orders of magnitude equally likely."""
    return Interval(low, high, "log")


def integers(low: int, high: int) -> Interval:
    """Whole numbers from `low` to `high`, both included."""
    return Interval(low, high, "integers")


def choice(*values) -> Choice:
    """One of these: numbers, words, None, lists, or sections, which may hold domains."""
    return Choice(tuple(map(config.plain, values)))


# Of a value that may be a domain, a section with domains in it, or neither.
def _suggest(value, trial, name: str):
    if isinstance(value, Domain):
        return value.suggest(trial, name)
    if isinstance(value, dict):
        return {key: _suggest(inner, trial, f"{name}.{key}") for key, inner in value.items()}
    return value


def _points(value, name: str) -> list[dict]:
    if isinstance(value, Domain):
        return value.points(name)
    inner = value if isinstance(value, dict) else {}
    return _product([_points(v, f"{name}.{key}") for key, v in inner.items()])


def _size(value) -> int:
    """How many points there are."""
    if isinstance(value, Interval):
        return int(value.high - value.low) + 1 if value.kind == "integers" else 1
    if isinstance(value, Choice):
        return sum(map(_size, value.values))
    return math.prod(map(_size, value.values())) if isinstance(value, dict) else 1


def _product(points: list[list[dict]]) -> list[dict]:
    return [dict(itertools.chain.from_iterable(map(dict.items, some))) for some in itertools.product(*points)]


def _logarithmic(value, name: str) -> set[str]:
    if isinstance(value, Interval):
        return {name} if value.kind == "log" else set()
    if isinstance(value, Choice):
        inner = {f"{name}({label})": some for label, some in zip(value.labels, value.values, strict=True)}
    else:
        inner = {f"{name}.{key}": some for key, some in value.items()} if isinstance(value, dict) else {}
    return set().union(*(_logarithmic(some, where) for where, some in inner.items()))


def _ends(value) -> list:
    if isinstance(value, Domain):
        return value.ends
    if not isinstance(value, dict):
        return [value]
    ends = {key: _ends(inner) for key, inner in value.items()}
    first = {key: some[0] for key, some in ends.items()}
    return [first, *(first | {key: end} for key, some in ends.items() for end in some[1:])]


def read(spec: str) -> dict[str, Domain]:
    """The search space of `file.py` or `file.py:variant`: what its `sweep()` gives.

    Raises:
      ConfigError: there is no `sweep` in it, it fails, or gives something else; lists every problem.
    """
    file = Path(spec if Path(spec).is_file() else spec.rpartition(":")[0])
    asked = f"{file.absolute()} has no search space: define sweep() beside get_config(), see seqjax/search/space.py."
    if file.suffix != ".py":
        raise ConfigError(asked)
    with lookup.running(f"{file.absolute()}: sweep"):
        module = runpy.run_path(str(file))
        space = module["sweep"]() if "sweep" in module else None
    if not isinstance(space, dict) or not space:
        raise ConfigError(asked)
    wrong = [f"{key}={value!r}" for key, value in space.items() if not isinstance(value, Domain)]
    if wrong:
        raise ConfigError(f"{file.absolute()}: sweep has {', '.join(wrong)}: wanted log, uniform, integers or choice.")
    return space


def check(base: dict, space: dict[str, Domain]) -> None:
    """Tries every end of every domain in the config, one at a time.

    Raises:
      ConfigError: lists all that the config refuses.
    """
    problems: dict[str, None] = {}  # in order, each once
    monitor = with_values(base, {})["task"]["monitor"]
    for key, domain in space.items():
        for value in domain.ends:
            try:
                if (found := with_values(base, {key: value})["task"]["monitor"]) != monitor:
                    problems[
                        f"{key}={value!r} makes task.monitor {found!r}, which decides which trial is best and is "
                        f"{monitor!r}: it cannot be searched."
                    ] = None
            except ConfigError as error:
                head, *lines = str(error).split("\n")
                problems |= dict.fromkeys(line.strip() for line in lines or [f"{key}={value!r}: {head}"])
    if problems:
        count = f"{len(problems)} problem{'s' * (len(problems) > 1)} in the search space"
        raise ConfigError(f"{count}:\n" + "\n".join(f"  {p}" for p in problems))


def logarithmic(space: dict[str, Domain]) -> set[str]:
    """The parameters that are drawn by order of magnitude, under the names of `suggest`."""
    return set().union(*(_logarithmic(domain, key) for key, domain in space.items()))


def suggest(space: dict[str, Domain], trial) -> dict:
    """Key -> value, drawn by an Optuna trial; what it has already drawn stays."""
    return {key: domain.suggest(trial, key) for key, domain in space.items()}


def grid(space: dict[str, Domain]) -> list[dict]:
    """The parameters of every point.

    Raises:
      ConfigError: there is no end of them, or too many.
    """
    if (size := math.prod(map(_size, space.values()))) > MOST:
        raise ConfigError(f"a grid of {size:,} points: wanted at most {MOST:,}, or another --sampler.")
    return _product([domain.points(key) for key, domain in space.items()])


def with_values(base: dict, values: dict) -> dict:
    """The config with these values in it, resolved.

    Raises:
      ConfigError: it refuses them.
    """
    return experiment.resolve(config.override(base, values))
