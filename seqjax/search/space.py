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
import math
import runpy
from pathlib import Path
from types import SimpleNamespace

from seqjax import config, lookup
from seqjax.search import _domains as domains
from seqjax.search._domains import Domain, choice, ends, integers, log, uniform  # for users: a sweep() calls these
from seqjax.training import experiment
from seqjax.types import ConfigError

__all__ = ["choice", "ends", "integers", "log", "uniform"]
MOST = 100_000  # most points of a grid


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
        for value in domain.ends:
            with contextlib.suppress(ConfigError):  # reported below
                with_values(base, member | {key: value})
                member[key] = value
                break
    problems: dict[str, None] = {}  # an ordered set
    monitor = with_values(base, {})["task"]["monitor"]
    for key, domain in space.items():
        for value in domain.ends:
            try:
                if (found := with_values(base, member | {key: value})["task"]["monitor"]) != monitor:
                    problems[
                        f"{key}={value!r} changes task.monitor from {monitor!r} to {found!r}, but one monitor must "
                        f"judge all trials: take {key} out of the search space."
                    ] = None
            except ConfigError as error:
                head, *lines = str(error).split("\n")
                problems |= dict.fromkeys(line.strip() for line in lines or [f"{key}={value!r}: {head}"])
    if problems:
        count = f"{len(problems)} problem{'s' * (len(problems) > 1)} in the search space"
        raise ConfigError(f"{count}:\n" + "\n".join(f"  {p}" for p in problems))


def suggest(space: dict[str, Domain], trial) -> dict:
    """Key -> value, drawn by an Optuna trial; values that it has already drawn stay unchanged."""
    return {key: domain.suggest(trial, key) for key, domain in space.items()}


def values(space: dict[str, Domain], params: dict) -> dict:
    """Key -> value, for a trial whose parameters are known."""
    known = lambda name, *_, **__: params[name]
    return suggest(space, SimpleNamespace(suggest_int=known, suggest_float=known, suggest_categorical=known))


def grid(space: dict[str, Domain]) -> list[dict]:
    """The parameters of every point of the grid.

    Raises:
      ConfigError: there are infinitely many points, or too many.
    """
    if (size := math.prod(map(domains.size, space.values()))) > MOST:
        raise ConfigError(f"the grid has {size:,} points, wanted at most {MOST:,}: use another --sampler.")
    return domains.product([domain.points(key) for key, domain in space.items()])


def with_values(base: dict, values: dict) -> dict:
    """The config with these values, resolved.

    Raises:
      ConfigError: the config does not accept the values.
    """
    return experiment.resolve(config.override(base, values))
