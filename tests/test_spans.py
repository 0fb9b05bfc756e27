"""Spans in tags: what a scheme reads, allows and writes."""

import itertools

import numpy as np
import pytest

from seqjax import spans
from seqjax.spans import Scheme, Span
from seqjax.types import DataError

RNG = np.random.default_rng(0)
BIO = ("B-x", "B-y", "I-x", "I-y", "O")
BIOES = ("B-x", "E-x", "E-y", "I-x", "O", "S-x", "S-y")
BILOU = ("B-x", "L-x", "L-y", "I-x", "O", "U-x", "U-y")


def ids(scheme, text):
    return [scheme.names.index(tag) for tag in text.split()]


@pytest.mark.parametrize(
    ("names", "text", "strict", "lenient"),
    [
        (BIO, "B-x I-x O B-y", [("x", 0, 2), ("y", 3, 4)], [("x", 0, 2), ("y", 3, 4)]),
        (BIO, "I-x I-x", [], [("x", 0, 2)]),  # seqeval without mode: F1 1, strict: 0
        (BIO, "B-x I-y I-y", [("x", 0, 1)], [("x", 0, 1), ("y", 1, 3)]),
        (BIO, "B-x B-x I-x", [("x", 0, 1), ("x", 1, 3)], [("x", 0, 1), ("x", 1, 3)]),
        (BIO, "O O", [], []),
        (BIOES, "B-x I-x E-x S-y", [("x", 0, 3), ("y", 3, 4)], [("x", 0, 3), ("y", 3, 4)]),
        (BIOES, "B-x I-x O S-x", [("x", 3, 4)], [("x", 0, 2), ("x", 3, 4)]),
        (BIOES, "E-x E-x", [], [("x", 0, 1), ("x", 1, 2)]),
        (BIOES, "B-x E-y", [], [("x", 0, 1), ("y", 1, 2)]),
        (BIOES, "S-x I-x E-x", [("x", 0, 1)], [("x", 0, 1), ("x", 1, 3)]),
        (BILOU, "B-x I-x L-x U-y", [("x", 0, 3), ("y", 3, 4)], [("x", 0, 3), ("y", 3, 4)]),
    ],
)
def test_the_two_readings(names, text, strict, lenient):
    scheme = Scheme.of(names)
    assert scheme.spans(ids(scheme, text)) == [Span(*span) for span in strict]
    assert scheme.spans(ids(scheme, text), "lenient") == [Span(*span) for span in lenient]


@pytest.mark.parametrize(("names", "scheme"), [(BIO, "IOB2"), (BIOES, "IOBES"), (BILOU, "BILOU")])
def test_against_seqeval(names, scheme):
    seqeval = pytest.importorskip("seqeval.metrics.sequence_labeling")
    schemes = pytest.importorskip("seqeval.scheme")
    ours = Scheme.of(names)
    for _ in range(300):
        tags = RNG.integers(0, len(names), RNG.integers(1, 8))
        words = [names[tag] for tag in tags]
        strict = {(e.tag, e.start, e.end) for e in schemes.Entities([words], getattr(schemes, scheme)).entities[0]}
        assert set(ours.spans(tags)) == strict
        if scheme != "BILOU":  # by default it does not know L and U
            assert ours.spans(tags, "lenient") == [(of, a, b + 1) for of, a, b in seqeval.get_entities(words)]


@pytest.mark.parametrize("names", [BIO, BIOES, BILOU], ids=["bio", "bioes", "bilou"])
def test_what_is_allowed_is_what_can_be_written(names):
    """A sequence is allowed if, and only if, its strict spans, written again, give it back."""
    scheme = Scheme.of(names)
    start, moves, end = scheme.allowed
    for tags in itertools.product(range(len(names)), repeat=4):
        words = [names[tag] for tag in tags]
        valid = spans.write(scheme.spans(tags), len(tags), scheme.kind) == words
        assert valid == bool(
            start[tags[0]] and end[tags[-1]] and all(moves[a, b] for a, b in itertools.pairwise(tags))
        ), words
        assert valid == (scheme.fault(tags) is None)
        if valid:  # in every other scheme and back
            assert spans.convert(spans.convert([words], "bioes"), scheme.kind) == [words]


def test_which_tags_are_of_a_scheme():
    assert [Scheme.of(names).kind for names in (BIO, BIOES, BILOU)] == ["bio", "bioes", "bilou"]
    assert Scheme.of(("I-a-b", "O", "B-a-b")).types == ("a-b",)
    for names in (("NOUN", "O"), ("O",), ("B-x", "X-x"), ("E-x", "L-x"), ("B-x", "noun"), ()):
        assert Scheme.of(names) is None


def test_faults_and_conversions():
    scheme = Scheme.of(BIO)
    assert scheme.fault(ids(scheme, "O I-x")) == (1, "I-x follows O")
    assert scheme.fault(ids(scheme, "I-x O")) == (0, "I-x begins a sequence")
    assert Scheme.of(BIOES).fault(ids(Scheme.of(BIOES), "O B-x")) == (1, "B-x ends a sequence")
    assert spans.convert([["B-x", "I-x", "O", "B-y"], []], "bioes") == [["B-x", "E-x", "O", "S-y"], []]
    assert spans.convert([["B-x", "I-x", "I-x", "B-y"]], "bilou") == [["B-x", "I-x", "L-x", "U-y"]]
    with pytest.raises(DataError, match="sequence 1, token 0: I-x begins a sequence, which bio forbids"):
        spans.convert([["O"], ["I-x", "B-x"]], "bioes")
    with pytest.raises(DataError, match="the tags NOUN, VERB are not of BIO"):
        spans.convert([["NOUN", "VERB"]], "bio")
