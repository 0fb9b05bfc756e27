"""The domains that a search space is made of, and what is drawn of them."""

import dataclasses
import itertools
import json
import math
from typing import Literal

from seqjax import config
from seqjax.types import Checked, ConfigError


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
        return suggest(self.values[labels.index(label)], trial, f"{name}({label})")

    def points(self, name: str) -> list[dict]:
        """The parameters of a trial, for every value.

        Raises:
          ConfigError: there is no end of them.
        """
        pairs = zip(self.labels, self.values, strict=True)
        return [{name: label} | inner for label, value in pairs for inner in points(value, f"{name}({label})")]

    @property
    def ends(self) -> list:
        """If a config takes these, it takes what is between."""
        return [end for value in self.values for end in ends(value)]


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


def suggest(value, trial, name: str):
    """The value with every domain in it drawn by a trial; a section may hold domains, or be none."""
    if isinstance(value, Domain):
        return value.suggest(trial, name)
    if isinstance(value, dict):
        return {key: suggest(inner, trial, f"{name}.{key}") for key, inner in value.items()}
    return value


def points(value, name: str) -> list[dict]:
    """The parameters of every point of a value that may be a domain, or a section with domains in it."""
    if isinstance(value, Domain):
        return value.points(name)
    inner = value if isinstance(value, dict) else {}
    return product([points(v, f"{name}.{key}") for key, v in inner.items()])


def size(value) -> int:
    """How many points there are."""
    if isinstance(value, Interval):
        return int(value.high - value.low) + 1 if value.kind == "integers" else 1
    if isinstance(value, Choice):
        return sum(map(size, value.values))
    return math.prod(map(size, value.values())) if isinstance(value, dict) else 1


def product(points: list[list[dict]]) -> list[dict]:
    """Every combination of points."""
    return [dict(itertools.chain.from_iterable(map(dict.items, some))) for some in itertools.product(*points)]


def logarithmic(value, name: str) -> set[str]:
    """The names of what is drawn by order of magnitude."""
    if isinstance(value, Interval):
        return {name} if value.kind == "log" else set()
    if isinstance(value, Choice):
        inner = {f"{name}({label})": some for label, some in zip(value.labels, value.values, strict=True)}
    else:
        inner = {f"{name}.{key}": some for key, some in value.items()} if isinstance(value, dict) else {}
    return set().union(*(logarithmic(some, where) for where, some in inner.items()))


def ends(value) -> list:
    """Of a section, or of a whole space: every end of every domain in it, with the first end of all others."""
    if isinstance(value, Domain):
        return value.ends
    if not isinstance(value, dict):
        return [value]
    found = {key: ends(inner) for key, inner in value.items()}
    first = {key: some[0] for key, some in found.items()}
    return [first, *(first | {key: end} for key, some in found.items() for end in some[1:])]
