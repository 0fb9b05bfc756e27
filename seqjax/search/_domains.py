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
    """The value with each domain in it replaced by a value that an Optuna trial draws; sections may contain domains."""
    if isinstance(value, Interval):
        if value.kind == "integers":
            return trial.suggest_int(name, value.low, value.high)
        return trial.suggest_float(name, value.low, value.high, log=value.kind == "log")
    if isinstance(value, Choice):
        label = trial.suggest_categorical(name, value.labels)
        return suggest(value.values[value.labels.index(label)], trial, f"{name}({label})")
    if isinstance(value, dict):
        return {key: suggest(inner, trial, f"{name}.{key}") for key, inner in value.items()}
    return value


def points(value, name: str) -> list[dict]:
    """The parameters of every grid point of a value: a domain, a section with domains in it, or a constant.

    Raises:
      ConfigError: there are infinitely many points.
    """
    if isinstance(value, Interval):
        if value.kind != "integers":
            raise ConfigError(f"{name}: {value} has no grid points: write choice(...), or use another --sampler.")
        return [{name: number} for number in range(value.low, value.high + 1)]
    if isinstance(value, Choice):
        pairs = zip(value.labels, value.values, strict=True)
        return [{name: label} | inner for label, some in pairs for inner in points(some, f"{name}({label})")]
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
    """Every end of every domain in a section or a whole space, combined with the first end of all other domains.

    A config that accepts both ends of an interval also accepts all values between them.
    """
    if isinstance(value, Interval):
        return [value.low, value.high]
    if isinstance(value, Choice):
        return [end for some in value.values for end in ends(some)]
    if not isinstance(value, dict):
        return [value]
    found = {key: ends(inner) for key, inner in value.items()}
    first = {key: some[0] for key, some in found.items()}
    return [first, *(first | {key: end} for key, some in found.items() for end in some[1:])]
