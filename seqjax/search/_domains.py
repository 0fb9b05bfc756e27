"""The domains that make up a search space, and how values are drawn from them."""

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
            raise ValueError(f"{self} is empty or infinite: wanted finite numbers with low < high.")
        if self.kind == "log" and self.low <= 0:
            raise ValueError(f"{self} has no logarithm at its lower end: wanted 0 < low.")

    def __str__(self) -> str:
        return f"{self.kind}({self.low!r}, {self.high!r})"

    def suggest(self, trial, name: str):
        """Draws a value from an Optuna trial, under this parameter name."""
        if self.kind == "integers":
            return trial.suggest_int(name, self.low, self.high)
        return trial.suggest_float(name, self.low, self.high, log=self.kind == "log")

    def points(self, name: str) -> list[dict]:
        """Returns one dict of trial parameters for every value.

        Raises:
          ConfigError: there are infinitely many values.
        """
        if self.kind != "integers":
            raise ConfigError(f"{name}: {self} has no grid points: write choice(...), or use another --sampler.")
        return [{name: value} for value in range(self.low, self.high + 1)]

    @property
    def ends(self) -> list:
        """The extreme values: a config that accepts them also accepts all values between them."""
        return [self.low, self.high]


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of several values. The label of a value is the value itself, the name of a section, or its JSON."""

    values: tuple

    def __post_init__(self):
        if len(self.values) < 2 or len(set(self.labels)) < len(self.values):
            raise ValueError(f"{self}: wanted at least two values, all different.")

    def __str__(self) -> str:
        return f"choice({', '.join(map(repr, self.labels))})"

    @property
    def labels(self) -> list:
        """The labels that a study stores for the values, because it stores only numbers and strings."""
        names = [value.get("name") if isinstance(value, dict) else value for value in self.values]
        known = lambda name: isinstance(name, str) and names.count(name) == 1
        return [
            json.dumps(value, default=str) if isinstance(value, (dict, list)) and not known(name) else name
            for value, name in zip(self.values, names, strict=True)
        ]

    def suggest(self, trial, name: str):
        """Draws a value from an Optuna trial, under this parameter name."""
        labels = self.labels
        label = trial.suggest_categorical(name, labels)
        return suggest(self.values[labels.index(label)], trial, f"{name}({label})")

    def points(self, name: str) -> list[dict]:
        """Returns one dict of trial parameters for every value.

        Raises:
          ConfigError: there are infinitely many values.
        """
        pairs = zip(self.labels, self.values, strict=True)
        return [{name: label} | inner for label, value in pairs for inner in points(value, f"{name}({label})")]

    @property
    def ends(self) -> list:
        """The extreme values: a config that accepts them also accepts all values between them."""
        return [end for value in self.values for end in ends(value)]


Domain = Interval | Choice


def uniform(low: float, high: float) -> Interval:
    """Numbers from `low` to `high`, all equally likely."""
    return Interval(low, high, "uniform")


def log(low: float, high: float) -> Interval:
    """Numbers from `low` to `high`, both positive; all orders of magnitude are equally likely."""
    return Interval(low, high, "log")


def integers(low: int, high: int) -> Interval:
    """Integers from `low` to `high`, both included."""
    return Interval(low, high, "integers")


def choice(*values) -> Choice:
    """One of these values: numbers, strings, None, lists, or sections, which may contain domains."""
    return Choice(tuple(map(config.plain, values)))


def suggest(value, trial, name: str):
    """Returns the value with each domain in it replaced by a value that a trial draws; sections may contain domains."""
    if isinstance(value, Domain):
        return value.suggest(trial, name)
    if isinstance(value, dict):
        return {key: suggest(inner, trial, f"{name}.{key}") for key, inner in value.items()}
    return value


def points(value, name: str) -> list[dict]:
    """Returns the parameters of every grid point of a value: a domain, a section with domains in it, or a constant."""
    if isinstance(value, Domain):
        return value.points(name)
    inner = value if isinstance(value, dict) else {}
    return product([points(v, f"{name}.{key}") for key, v in inner.items()])


def size(value) -> int:
    """The number of grid points; an interval of real numbers counts as one."""
    if isinstance(value, Interval):
        return int(value.high - value.low) + 1 if value.kind == "integers" else 1
    if isinstance(value, Choice):
        return sum(map(size, value.values))
    return math.prod(map(size, value.values())) if isinstance(value, dict) else 1


def product(points: list[list[dict]]) -> list[dict]:
    """Every combination of points."""
    return [dict(itertools.chain.from_iterable(map(dict.items, some))) for some in itertools.product(*points)]


def ends(value) -> list:
    """Every end of every domain in a section or a whole space, combined with the first end of all other domains."""
    if isinstance(value, Domain):
        return value.ends
    if not isinstance(value, dict):
        return [value]
    found = {key: ends(inner) for key, inner in value.items()}
    first = {key: some[0] for key, some in found.items()}
    return [first, *(first | {key: end} for key, some in found.items() for end in some[1:])]
