"""The table of fields."""

import pytest

from seqjax import spec
from seqjax.spec import Field, Spec


def test_a_spec_is_told_apart_and_hashed_by_its_fields():
    a, b = (spec.tokens(7, 9, source=(5, 4), classes=3) for _ in range(2))
    assert a == b and hash(a) == hash(b) and a != spec.tokens(7, 9, source=(5, 4), classes=2)
    assert (a.vocabulary, a.length, a.source_vocabulary, a.source_length, a.classes) == (7, 9, 5, 4, 3)
    assert (a.features, spec.features(3).features, spec.features(3).vocabulary) == (None, 3, None)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Spec({}, {"L": 1}), "either tokens or features, got no fields"),
        (lambda: Spec(spec.tokens(3).fields | spec.features(2).fields, {"L": 1}), "got tokens, features"),
        (lambda: Spec({"tokens": Field("ids", size=3, axis="T")}, {"L": 1}), "axis 'T', but lengths has L"),
        (lambda: Field("ids"), "size=None with kind='ids'"),
        (lambda: Field("real", into="L"), "into='L' with kind='real'"),
        (lambda: Field("bool", missing=True), "only 'real' numbers can be missing"),
        (lambda: spec.tokens(0), "size: got 0"),
    ],
)
def test_what_does_not_fit_is_refused(build, words):
    with pytest.raises(ValueError, match=words):
        build()
