"""Dyck: every bracket is closed by its own kind, no deeper than asked for."""

import numpy as np
import pytest

from seqjax.data import dyck


@pytest.mark.parametrize("kinds, depth", [(3, 2), (2, 20), (1, 1)])
def test_brackets_are_balanced_and_closing_ones_scored(kinds, depth):
    source = dyck.Source(length=12, min_length=4, kinds=kinds, depth=depth, examples=80)
    assert source.spec.vocabulary == 2 * kinds and source.spec.length == 12
    for split, few in (("train", 4), ("validation", 12), ("test", 12)):
        counts, deepest = set(), 0
        for index in range(80):
            example = source.example(split, index)
            stack = []
            for token, scored in zip(example["tokens"].tolist(), example["scored"], strict=True):
                assert scored == (token >= kinds)
                if scored:
                    assert stack.pop() == token - kinds
                else:
                    stack.append(token)
                deepest = max(deepest, len(stack))
            assert not stack
            counts.add(len(example["tokens"]))
        assert counts == set(range(few, 13, 2))
        assert deepest == min(depth, 6)


def test_the_newest_bracket_is_no_stack():
    source = dyck.Source(length=8, kinds=3, depth=3, examples=40)
    right = []
    for index in range(40):
        tokens = source.example("test", index)["tokens"].tolist()
        for place, token in enumerate(tokens):
            if token >= 3:
                right.append(next(t for t in reversed(tokens[:place]) if t < 3) + 3 == token)
    found = source.baselines("test")["accuracy"]
    assert found["guessing"] == 1 / 3
    assert found["last that was opened"] == pytest.approx(np.mean(right))
    assert dyck.Source(length=8, depth=1).baselines("test")["accuracy"]["last that was opened"] == 1


@pytest.mark.parametrize(
    "options, words",
    [
        ({"length": 7}, "length=7 is odd"),
        ({"min_length": 3}, "min_length=3 is odd"),
        ({"length": 4, "min_length": 6}, "min_length=6 is above length=4"),
        ({"depth": 0}, "depth: got 0, wanted an int of at least 1"),
    ],
)
def test_options_that_cannot_be(options, words):
    with pytest.raises(ValueError, match=words):
        dyck.Source(**options)
