"""Search spaces, written in a config file beside `get_config`:

    def sweep():
        return {
            "optim.learning_rate": log(1e-4, 1e-1),
            "model.width": choice(64, 128),
            "model.layers": integers(1, 4),
            "model.dropout": uniform(0, 0.5),
            "model.mixer": choice("gru", dict(name="attention", heads=choice(2, 4))),
        }

A choice may be a whole section, and hold domains of its own: they are searched only where it is chosen.
"""

import math
import runpy
from pathlib import Path
from types import SimpleNamespace

from seqjax import config, lookup
from seqjax.search import _domains as domains
from seqjax.search._domains import Domain, choice, ends, integers, log, uniform  # what a sweep() is written with
from seqjax.training import experiment
from seqjax.types import ConfigError

__all__ = ["choice", "ends", "integers", "log", "uniform"]
MOST = 100_000  # points of a grid


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
    return set().union(*(domains.logarithmic(domain, key) for key, domain in space.items()))


def suggest(space: dict[str, Domain], trial) -> dict:
    """Key -> value, drawn by an Optuna trial; what it has already drawn stays."""
    return {key: domain.suggest(trial, key) for key, domain in space.items()}


def values(space: dict[str, Domain], params: dict) -> dict:
    """Key -> value, of a trial whose parameters are known."""
    known = lambda name, *_, **__: params[name]
    return suggest(space, SimpleNamespace(suggest_int=known, suggest_float=known, suggest_categorical=known))


def grid(space: dict[str, Domain]) -> list[dict]:
    """The parameters of every point.

    Raises:
      ConfigError: there is no end of them, or too many.
    """
    if (size := math.prod(map(domains.size, space.values()))) > MOST:
        raise ConfigError(f"a grid of {size:,} points: wanted at most {MOST:,}, or another --sampler.")
    return domains.product([domain.points(key) for key, domain in space.items()])


def with_values(base: dict, values: dict) -> dict:
    """The config with these values in it, resolved.

    Raises:
      ConfigError: it refuses them.
    """
    return experiment.resolve(config.override(base, values))
