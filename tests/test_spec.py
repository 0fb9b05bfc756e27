"""The table of fields."""

import pytest

from seqjax import spec
from seqjax.spec import Field, Spec

TOKENS = spec.tokens(3).fields


def test_a_spec_is_told_apart_and_hashed_by_its_fields():
    a, b = (spec.tokens(7, 9, source=(5, 4), classes=3) for _ in range(2))
    assert a == b and hash(a) == hash(b) and a != spec.tokens(7, 9, source=(5, 4), classes=2)
    assert (a.vocabulary, a.length, a.source_vocabulary, a.source_length, a.classes) == (7, 9, 5, 4, 3)
    lists = Spec({"features": Field("real", shape=[3])}, {"L": 1}, splits=["train"])
    assert lists == spec.features(3) and hash(lists) == hash(spec.features(3))
    assert (a.features, spec.features(3).features, spec.features(3).vocabulary) == (None, 3, None)


def test_the_arrays_of_a_batch_follow_from_the_fields():
    pulse, words, at = Field("real", shape=(2,), missing=True), Field("ids", size=9, axis="T"), Field("place", into="T")
    table = Spec({**spec.tokens(7).fields, "pulse": pulse, "words": words, "at": at}, {"L": 9, "T": 3})
    assert table.axes == {"L": "tokens", "T": "words"}
    assert table.columns == {
        "tokens": ("L", (), "int32"),
        "pulse": ("L", (2,), "float32"),
        "pulse_observed": ("L", (2,), "bool"),
        "words": ("T", (), "int32"),
        "at": ("L", (), "int32"),
        "mask": ("L", (), "bool"),
        "mask_T": ("T", (), "bool"),
    }


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Spec({}, {"L": 1}), "either tokens or features, got no fields"),
        (lambda: Spec(spec.tokens(3).fields | spec.features(2).fields, {"L": 1}), "got tokens, features"),
        (lambda: Spec({"tokens": Field("ids", size=3, axis="T")}, {"L": 1}), "axis 'T', but lengths has L"),
        (lambda: Field("ids"), "size=None with kind='ids'"),
        (lambda: Field("real", into="L"), "into='L' with kind='real'"),
        (lambda: Field("bool", missing=True), "only 'real' numbers can be missing"),
        (lambda: Field("ids", size=2, names=("a",)), "names has 1 entries with size=2: name every id, or none"),
        (lambda: spec.tokens(0), "size: got 0"),
        (lambda: spec.features(2, 0), r"lengths\.L: got 0, wanted an int of at least 1"),
        (lambda: spec.tokens(3, end=3), "end=3, wanted one of the 3 ids of tokens"),
        (lambda: spec.features(3, end=0), "end=0, wanted one of the 0 ids of tokens"),
        (lambda: Spec({"tokens": Field("ids", size=3, axis="T")}, {"T": 1}), "axis 'T', wanted 'L'"),
        (lambda: Spec({**TOKENS, "mask": Field("bool")}, {"L": 1}), "a batch has a 'mask' of its own"),
        (lambda: Spec({**TOKENS, "weight": Field("real")}, {"L": 1}), "a batch has a 'weight' of its own"),
        (lambda: Spec({**TOKENS, "at": Field("place", into="T")}, {"L": 1, "T": 1}), "no field is a sequence along it"),
    ],
)
def test_what_does_not_fit_is_refused(build, words):
    with pytest.raises(ValueError, match=words):
        build()
