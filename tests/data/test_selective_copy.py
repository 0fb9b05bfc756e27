"""Selective copy: the symbols among the noise, in order."""

import numpy as np
import pytest

from seqjax.data import selective_copy


def test_the_symbols_come_again_without_the_noise():
    source = selective_copy.Source(length=9, min_length=5, count=4, symbols=3, examples=60)
    assert source.spec.vocabulary == 5 and source.spec.length == 14
    for split, few in (("train", 5), ("validation", 9), ("test", 9)):
        counts, layouts = set(), set()
        for index in range(60):
            example = source.example(split, index)
            tokens = example["tokens"].tolist()
            bar = tokens.index(4)
            assert [t for t in tokens[:bar] if t != 3] == tokens[bar + 1 :]
            assert len(tokens[bar + 1 :]) == 4 and max(tokens[bar + 1 :]) < 3
            np.testing.assert_array_equal(example["scored"], [False] * (bar + 1) + [True] * 4)
            counts.add(bar)
            layouts.add(tuple(t == 3 for t in tokens[:bar]))
        assert counts == set(range(few, 10))
        assert len(layouts) > 20


def test_all_have_one_length_unless_told_otherwise():
    source = selective_copy.Source(length=9, count=4)
    assert {len(source.example("train", i)["tokens"]) for i in range(20)} == {14}
    assert source.baselines("test") == {"accuracy": {"guessing": 1 / 8}}


def test_every_place_and_symbol_is_as_likely():
    source = selective_copy.Source(length=10, count=5, symbols=4, examples=400)
    tokens = np.stack([source.example("test", i)["tokens"] for i in range(400)])
    np.testing.assert_allclose(np.mean(tokens[:, :10] != 4, axis=0), 0.5, atol=0.1)
    np.testing.assert_allclose(np.bincount(tokens[:, 11:].ravel()) / 2000, 0.25, atol=0.05)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"length": 3, "min_length": 4}, "min_length=4 is above length=3"),
        ({"length": 3, "count": 4}, "count=4 symbols do not fit into 3 places"),
        ({"length": 9, "min_length": 3, "count": 4}, "count=4 symbols do not fit into 3 places"),
    ],
)
def test_options_that_cannot_be(options, words):
    with pytest.raises(ValueError, match=words):
        selective_copy.Source(**options)
