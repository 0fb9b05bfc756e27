"""The places where trials run. Each file defines one executor and exposes it as `Executor`; see `_base`."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Annotated

from seqjax import config
from seqjax.types import ConfigError, Part
from seqjax.words import Word

PART = Part("seqjax.search.executors", "Executor")


@dataclasses.dataclass(frozen=True)
class _Sections:
    executor: Annotated[Callable, PART]


def named(name: str, slots: int, options: list[str]) -> Callable:
    """Returns the executor that a command line asks for: `named("slurm", 4, ["minutes=240"])()`.

    Raises:
      ConfigError: no such executor or option, or an invalid value; the message lists every problem.
    """
    section = {"name": name, "slots": slots}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise ConfigError(f"--executor_option {option}: wanted KEY=VALUE.")
        section[key] = Word(value)
    section = config.resolve(_Sections, {"executor": section})["executor"]
    return functools.partial(config.build, PART, section, "executor")
