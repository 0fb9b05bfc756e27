"""What a law is."""

import dataclasses
import sysconfig
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

import flax
import jax
import numpy as np

import seqjax
from seqjax.testing.subject import Subject

LIBRARIES = (sysconfig.get_path("stdlib"), *(str(Path(module.__file__).parent) for module in (seqjax, jax, flax, np)))
INDENT = "\n    "


class Broken(AssertionError):
    """A law does not hold; the message is the report."""


@dataclasses.dataclass(frozen=True, eq=False)
class Law:
    """One law: what must hold, how it is checked, and what is usually wrong if it does not hold.

    `find` yields lines about what is wrong with a subject, none if the law holds. `unless` says why the law does not
    apply to a subject, if so. `after` names laws without which this one would only say the same once more.
    """

    name: str
    sentence: str
    causes: tuple[str, ...]
    find: Callable[[Subject], Iterable[str]]
    unless: Callable[[Subject], str | None]
    after: tuple[str, ...] = ()
    compiles: bool = True

    def __str__(self) -> str:
        return self.name

    def broken(self, subject: Subject) -> str | None:
        """The report; None if the law holds."""
        try:
            lines, causes = list(self.find(subject)), self.causes
        except Exception as error:  # of the code of the module
            lines, causes = list(raised(error)), ()
        if not lines:
            return None
        head = f"{self.name}: {self.sentence}. {type(subject.own).__name__} breaks this law:"
        usual = [f"- {cause}" for cause in causes]
        return INDENT.join([head, *lines, *(["What usually causes this:", *usual] if usual else [])])

    def hold(self, subject: Subject) -> None:
        """Raises Broken with the report if the law does not hold."""
        if report := self.broken(subject):
            raise Broken(report)


def law(sentence: str, *causes: str, unless=lambda subject: None, **more) -> Callable[..., Law]:
    """Makes a law of a function that finds what is wrong; its name is that of the function."""
    return lambda find: Law(find.__name__.replace("_", "-"), sentence, causes, find, unless, **more)


def stateless(subject: Subject) -> str | None:
    """Why laws of the state do not apply."""
    return None if subject.own.causal else "it sees later tokens, so it has no state"


def raised(error: Exception) -> Iterable[str]:
    """An error in a sentence, and the lines of code outside of libraries that led to it."""
    message = str(error).split("\n-----")[0].strip()  # what JAX adds about its own traceback
    yield f"it raised {type(error).__name__}: {message}".replace("\n", INDENT)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).exists()]
    own = [f for f in frames if not f.filename.startswith(LIBRARIES)]
    yield from "".join(traceback.format_list(own or frames[-1:])).splitlines()
