"""Spans of tokens, such as names of people, written as one tag per token.

    BIO      B-per I-per I-per O B-loc O      begins, is inside, is outside of all
    BIOES    B-per I-per E-per O S-loc O      also: ends, is the only one
    BILOU    B-per I-per L-per O U-loc O      the same, in other letters

Read strictly, only what is written as the scheme says is a span: it begins with B or S and, in BIOES, ends with E or S.
Read leniently, as conlleval does, a span is any run of tags of one type; B and S begin a new one, E and S end it.
"""

import dataclasses
import functools
import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from seqjax.types import DataError

Mode = Literal["strict", "lenient"]
Kind = Literal["bio", "bioes", "bilou"]
BEGIN, INSIDE, END, SINGLE = "begin", "inside", "end", "single"
LETTERS = {
    "bio": {"B": BEGIN, "I": INSIDE},
    "bioes": {"B": BEGIN, "I": INSIDE, "E": END, "S": SINGLE},
    "bilou": {"B": BEGIN, "I": INSIDE, "L": END, "U": SINGLE},
}
TAG = re.compile("([A-Z])-(.+)", re.DOTALL)


class Span(NamedTuple):
    """The tokens `begin` ... `end` - 1."""

    type: str
    begin: int
    end: int


class Tables(NamedTuple):
    """How a mode reads tags. The first axis is the tag before, where C stands for none.

    begins_PC: whether a span begins. inside_PC: whether it is the span of the tag before. closes_P: whether a span may
    end after this tag. type_C: the index of the type, -1 for O.
    """

    begins_PC: np.ndarray
    inside_PC: np.ndarray
    closes_P: np.ndarray
    type_C: np.ndarray


@dataclasses.dataclass(frozen=True)
class Scheme:
    """What a set of tags means. `of` finds it out: None if some tag is neither O nor a part of a span."""

    names: tuple[str, ...]
    kind: Kind

    @classmethod
    def of(cls, names: Iterable[str]) -> "Scheme | None":
        names = tuple(names)
        found = [TAG.fullmatch(name) for name in names if name != "O"]
        if not found or not all(found):
            return None
        letters = {match[1] for match in found}
        return next((cls(names, kind) for kind, known in LETTERS.items() if letters <= known.keys()), None)

    @functools.cached_property
    def parts(self) -> list[tuple[str | None, str | None]]:
        """The role and the type of each tag; none of O."""
        matches = map(TAG.fullmatch, self.names)
        return [(LETTERS[self.kind][match[1]], match[2]) if match else (None, None) for match in matches]

    @functools.cached_property
    def types(self) -> tuple[str, ...]:
        """The types of spans, sorted."""
        return tuple(sorted({of for _, of in self.parts if of is not None}))

    @functools.cached_property
    def strict(self) -> Tables:
        """A span is written as the scheme says."""
        closes_P = ~self._has(BEGIN, INSIDE) if self.kind != "bio" else np.ones(len(self.names) + 1, bool)
        begins_PP = np.broadcast_to(self._has(BEGIN, SINGLE), self._goes_on_PP.shape)
        return Tables(begins_PP[:, :-1], self._goes_on_PP[:, :-1], closes_P, self.type_C)

    @functools.cached_property
    def lenient(self) -> Tables:
        """A span is a run of tags of one type."""
        typed_C = self.type_C >= 0
        goes_on_PC = self._goes_on_PP[:, :-1]
        return Tables(~goes_on_PC & typed_C, goes_on_PC, np.ones(len(self.names) + 1, bool), self.type_C)

    @functools.cached_property
    def type_C(self) -> np.ndarray:
        """The index of the type of each tag, -1 for O."""
        return np.array([-1 if of is None else self.types.index(of) for _, of in self.parts], np.int32)

    @functools.cached_property
    def _goes_on_PP(self) -> np.ndarray:
        """Whether a tag (column) goes on with the span of the one before (row)."""
        type_P = np.append(self.type_C, -2)
        return self._has(BEGIN, INSIDE)[:, None] & self._has(INSIDE, END) & (type_P[:, None] == type_P)

    def _has(self, *roles: str) -> np.ndarray:
        """Which tags have one of these roles; the last is no tag."""
        return np.array([*(role in roles for role, _ in self.parts), False])

    @functools.cached_property
    def allowed(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which tags may be the first (C,), follow each other (C, C), and be the last (C,)."""
        begins_PC, inside_PC, closes_P, type_C = self.strict
        opens_PC = begins_PC | (type_C < 0)
        moves_PC = inside_PC | (closes_P[:, None] & opens_PC)
        return moves_PC[-1], moves_PC[:-1], closes_P[:-1]

    def fault(self, ids: Sequence[int]) -> tuple[int, str] | None:
        """The first tag of a sequence that the scheme does not allow, and what is wrong with it."""
        start_C, moves_CC, end_C = self.allowed
        for place, tag in enumerate(ids):
            before = ids[place - 1] if place else None
            if not (start_C[tag] if before is None else moves_CC[before, tag]):
                after = "begins a sequence" if before is None else f"follows {self.names[before]}"
                return place, f"{self.names[tag]} {after}"
        if len(ids) and not end_C[ids[-1]]:
            return len(ids) - 1, f"{self.names[ids[-1]]} ends a sequence"
        return None

    def spans(self, ids: Sequence[int], mode: Mode = "strict") -> list[Span]:
        """The spans of one sequence, in order."""
        begins_PC, inside_PC, closes_P, type_C = getattr(self, mode)
        before, begin, found = len(self.names), None, []
        for place, tag in enumerate([*ids, None]):
            goes_on = tag is not None and inside_PC[before, tag]
            if begin is not None and not goes_on:
                if closes_P[before]:
                    found.append(Span(self.types[type_C[ids[begin]]], begin, place))
                begin = None
            if tag is not None and begins_PC[before, tag]:
                begin = place
            before = tag
        return found


def write(spans: Iterable[Span], length: int, kind: Kind) -> list[str]:
    """The tags of spans that do not overlap, in a sequence of `length` tokens."""
    letter = {role: name for name, role in LETTERS[kind].items()}
    tags = ["O"] * length
    for of, begin, end in spans:
        roles = [BEGIN, *[INSIDE] * (end - begin - 2), END] if end - begin > 1 else [SINGLE]
        if kind == "bio":
            roles = [BEGIN, *[INSIDE] * (end - begin - 1)]
        tags[begin:end] = [f"{letter[role]}-{of}" for role in roles]
    return tags


def convert(sequences: Sequence[Sequence[str]], kind: Kind) -> list[list[str]]:
    """Sequences of tags in another scheme, such as BIO -> BIOES.

    Raises:
      DataError: the tags are of no scheme, or a sequence is not valid in its own.
    """
    names = sorted({tag for tags in sequences for tag in tags})
    scheme, number = Scheme.of(names), {name: i for i, name in enumerate(names)}
    if scheme is None and set(names) - {"O"}:
        raise DataError(f"the tags {', '.join(names[:8])} are not of BIO, BIOES or BILOU: correct them.")
    found = []
    for place, tags in enumerate(sequences):
        ids = [number[tag] for tag in tags]
        if fault := scheme and scheme.fault(ids):
            raise DataError(f"sequence {place}, token {fault[0]}: {fault[1]}, which {scheme.kind} forbids: correct it.")
        found.append(write(scheme.spans(ids) if scheme else [], len(tags), kind))
    return found
