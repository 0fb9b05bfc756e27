"""Search spaces, written in a config file beside `get_config`:

    def sweep():
        return {
            "optim.learning_rate": log(1e-4, 1e-1),
            "model.width": choice(64, 128),
            "model.layers": integers(1, 4),
            "model.dropout": uniform(0, 0.5),
            "model.mixer": choice("gru", dict(name="attention", heads=choice(2, 4))),
        }

A choice may be a whole section with domains in it. They are searched only in trials that choose this section.
"""

import contextlib
import dataclasses
import itertools
import json
import math
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

from seqjax import config, lookup
from seqjax.training import experiment
from seqjax.types import Checked, ConfigError, refuse

MOST = 100_000  # most points of a grid


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


def _suggest(value, trial, name: str):
    """The value with each domain in it replaced by a value that an Optuna trial draws; sections may contain domains."""
    if isinstance(value, Interval):
        if value.kind == "integers":
            return trial.suggest_int(name, value.low, value.high)
        return trial.suggest_float(name, value.low, value.high, log=value.kind == "log")
    if isinstance(value, Choice):
        label = trial.suggest_categorical(name, value.labels)
        return _suggest(value.values[value.labels.index(label)], trial, f"{name}({label})")
    if isinstance(value, dict):
        return {key: _suggest(inner, trial, f"{name}.{key}") for key, inner in value.items()}
    return value


def _points(value, name: str) -> list[dict]:
    """The parameters of every grid point of a value: a domain, a section with domains in it, or a constant."""
    if isinstance(value, Interval):
        if value.kind != "integers":
            raise ConfigError(f"{name}: {value} has no grid points: write choice(...), or use another --sampler.")
        return [{name: number} for number in range(value.low, value.high + 1)]
    if isinstance(value, Choice):
        pairs = zip(value.labels, value.values, strict=True)
        return [{name: label} | inner for label, some in pairs for inner in _points(some, f"{name}({label})")]
    inner = value if isinstance(value, dict) else {}
    return _product([_points(v, f"{name}.{key}") for key, v in inner.items()])


def _size(value) -> int:
    """The number of grid points; an interval of real numbers counts as one."""
    if isinstance(value, Interval):
        return int(value.high - value.low) + 1 if value.kind == "integers" else 1
    if isinstance(value, Choice):
        return sum(map(_size, value.values))
    return math.prod(map(_size, value.values())) if isinstance(value, dict) else 1


def _product(points: list[list[dict]]) -> list[dict]:
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


def read(spec: str) -> dict[str, Domain]:
    """Reads the search space of `file.py` or `file.py:variant`: the dict that its `sweep()` returns.

    Raises:
      ConfigError: the file has no `sweep`, or it fails, or returns something else; the message lists every problem.
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
    """Tries every end of every domain in the config, together with ends of the other domains that the config accepts.

    Raises:
      ConfigError: the config does not accept some values; the message lists them.
    """
    member: dict = {}  # key -> an end; the config accepts them together
    for key, domain in space.items():
        for value in ends(domain):
            with contextlib.suppress(ConfigError):  # reported below
                with_values(base, member | {key: value})
                member[key] = value
                break
    problems: dict[str, None] = {}  # an ordered set
    monitor = with_values(base, {})["task"]["monitor"]
    for key, domain in space.items():
        for value in ends(domain):
            try:
                if (found := with_values(base, member | {key: value})["task"]["monitor"]) != monitor:
                    problems[
                        f"{key}={value!r} changes task.monitor from {monitor!r} to {found!r}, but one monitor must "
                        f"judge all trials: take {key} out of the search space."
                    ] = None
            except ConfigError as error:
                head, *lines = str(error).split("\n")
                problems |= dict.fromkeys(line.strip() for line in lines or [f"{key}={value!r}: {head}"])
    refuse(list(problems), "the search space")


def suggest(space: dict[str, Domain], trial) -> dict:
    """Key -> value, drawn by an Optuna trial; values that it has already drawn stay unchanged."""
    return {key: _suggest(domain, trial, key) for key, domain in space.items()}


def values(space: dict[str, Domain], params: dict) -> dict:
    """Key -> value, for a trial whose parameters are known."""
    known = lambda name, *_, **__: params[name]
    return suggest(space, SimpleNamespace(suggest_int=known, suggest_float=known, suggest_categorical=known))


def grid(space: dict[str, Domain]) -> list[dict]:
    """The parameters of every point of the grid. Raises ConfigError if there are too many."""
    if (size := math.prod(map(_size, space.values()))) > MOST:
        raise ConfigError(f"the grid has {size:,} points, wanted at most {MOST:,}: use another --sampler.")
    return _product([_points(domain, key) for key, domain in space.items()])


def with_values(base: dict, values: dict) -> dict:
    """The config with these values, resolved."""
    return experiment.resolve(config.override(base, values))
