"""All laws, and how a mixer or a model is held against them.

`subject` says on what, `rows` on which layouts of documents and padding, `ways` how it is run. A law compares two ways
to one result, "in chunks" and "whole", say, in values and gradients.
"""

import dataclasses
from collections.abc import Iterator
from typing import Literal, NamedTuple

from flax import linen as nn

from seqjax.testing import _second, _shapes, _values
from seqjax.testing.law import Broken, Law
from seqjax.testing.subject import EXACT, Subject, tolerance

__all__ = ["EXACT", "LAWS", "Broken", "Law", "Subject", "check", "of", "tolerance"]

LAWS = (*_shapes.LAWS, *_values.LAWS, *_second.LAWS)


@dataclasses.dataclass(frozen=True, eq=False)
class Held:
    """A law for one subject: a call raises `Broken`, an AssertionError with the report, if it does not hold."""

    law: Law
    subject: Subject

    def __call__(self) -> None:
        self.law.hold(self.subject)

    def __str__(self) -> str:
        return self.law.name


def of(module: nn.Module, within: float | None = None) -> list[Held]:
    """The laws that apply to a mixer, or to a model of tokens or features with a prediction per token.

    They run under the settings for products of this process (`jax_default_matmul_precision`). `within`: how far two
    results may be apart, as a part of the largest number; None: 2e-5 where products are those of float32, and more on
    devices where they are not (see `tolerance`). Mixers that compute in half precision inside need about 0.02.

    Raises:
      ValueError: the laws cannot be held against this module; see `Subject`.
    """
    subject = Subject(module, tolerance() if within is None else within)
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
            yield Verdict(law, "not checked", f"it follows from {broken[0]}")
        elif report := law.broken(subject):
            missing.add(law.name)
            yield Verdict(law, "broken", report)
        else:
            yield Verdict(law, "held")
