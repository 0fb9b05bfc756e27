"""Annotations are the schema: one check for configs and constructors."""

import dataclasses
import math
from typing import Annotated, Any, Literal

import pytest

from seqjax.types import (
    Checked,
    Count,
    Fraction,
    Injected,
    Natural,
    NonNegative,
    Positive,
    Range,
    marker,
    mismatch,
)


@pytest.mark.parametrize(
    ("hint", "value", "fits"),
    [
        (int, 3, True),
        (int, True, False),
        (int, 3.0, False),
        (int, None, False),
        (float, 3, True),
        (float, True, False),
        (float, math.nan, False),
        (float, math.inf, True),
        (float, "3", False),
        (bool, True, True),
        (bool, 1, False),
        (str, "a", True),
        (Count, 0, False),
        (Count, 1, True),
        (Natural, 0, True),
        (Positive, 0.0, False),
        (Positive, math.nan, False),
        (Positive, math.inf, False),
        (NonNegative, 0, True),
        (Fraction, 1.0, False),
        (Fraction, 0.5, True),
        (Count | None, None, True),
        (Count | None, 0, False),
        (Literal["a", "b"], "a", True),
        (Literal["a", "b"], "c", False),
        (Literal[1], True, False),
        (tuple[Count, ...], [1, 2], True),
        (tuple[Count, ...], [1, 0], False),
        (tuple[Count, ...], 1, False),
        (dict, {}, True),
        (dict, [], False),
        (Any, object(), True),
        (Annotated[int, Range(least=2, most=3)], 4, False),
    ],
)
def test_mismatch(hint, value, fits):
    assert (mismatch(hint, value) is None) == fits


def test_a_mismatch_says_got_and_wanted():
    assert mismatch(Count, 0) == "got 0, wanted an int of at least 1"
    assert mismatch(Literal["a", "b"], "c") == "got 'c', wanted one of 'a', 'b'"


def test_a_whole_number_with_an_exponent_is_told_how_to_write_it():
    assert mismatch(Count, 1e3) == "got 1000.0, wanted an int of at least 1: write 1000"
    assert mismatch(Count, 1.5) == "got 1.5, wanted an int of at least 1"
    assert mismatch(Count, -1e3) == "got -1000.0, wanted an int of at least 1"
    assert mismatch(Count, float("inf")).startswith("got inf")


def test_constructors_list_all_that_is_wrong():
    @dataclasses.dataclass
    class Thing(Checked):
        size: Count = 1
        rate: Fraction = 0.0

    Thing(2, 0.5)
    with pytest.raises(ValueError, match=r"size: got 0.*rate: got 1.5"):
        Thing(0, 1.5)


def test_markers():
    assert marker(Annotated[Count, Injected], Injected) is Injected
    assert marker(Count, Injected) is None
