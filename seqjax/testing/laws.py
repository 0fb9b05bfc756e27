"""All laws, and how a mixer or a model is held against them.

`subject` says on what, `rows` on which layouts of documents and padding, `ways` how it is run. A law compares two ways
to one result, "in chunks" and "whole", say, in values and gradients.
"""

import dataclasses
from collections.abc import Iterator
from typing import Literal, NamedTuple

from flax import linen as nn

from seqjax.testing import _second, _shapes, _sight, _states, _values
from seqjax.testing.law import Broken, Law
from seqjax.testing.subject import Subject, rounding

__all__ = ["LAWS", "Broken", "Law", "Subject", "check", "of", "rounding"]

LAWS = (*_shapes.LAWS, *_sight.LAWS, *_values.LAWS, *_states.LAWS, *_second.LAWS)


@dataclasses.dataclass(frozen=True, eq=False)
class Held:
    """A law for one subject: a call raises `Broken`, an AssertionError with the report, if it does not hold."""

    law: Law
    subject: Subject

    def __call__(self) -> None:
        self.law.hold(self.subject)

    def __str__(self) -> str:
        return self.law.name


def of(module: nn.Module, tolerance: float | None = None) -> list[Held]:
    """The laws that apply to a mixer, or to a model of tokens or features with a prediction per token.

    `tolerance`: how far two results may be apart, as a part of the largest number, or of 1 if that is larger. None is
    2e-5 where products are those of float32, and more for half precision, and under settings and on devices where they
    are not (`rounding`). A mixer that computes in half precision although its dtype is float32 needs 0.1, too.

    Raises:
      ValueError: the laws cannot be held against this module; see `Subject`.
    """
    subject = Subject(module, rounding(getattr(module, "dtype", "float32")) if tolerance is None else tolerance)
    return [Held(law, subject) for law in LAWS if law.unless(subject) is None]


class Verdict(NamedTuple):
    """What became of a law. `text`: the report, or why the law does not apply or was not checked."""

    law: Law
    outcome: Literal["held", "broken", "does not apply", "not checked"]
    text: str = ""


def check(subject: Subject) -> Iterator[Verdict]:
    """Holds a subject against one law after the other. A law that needs a broken one is not checked."""
    missing = set()
    for law in LAWS:
        if reason := law.unless(subject):
            yield Verdict(law, "does not apply", reason)
        elif broken := [name for name in law.after if name in missing]:
            missing.add(law.name)
            yield Verdict(law, "not checked", f"only once {broken[0]} holds")
        elif report := law.broken(subject):
            missing.add(law.name)
            yield Verdict(law, "broken", report)
        else:
            yield Verdict(law, "held")
