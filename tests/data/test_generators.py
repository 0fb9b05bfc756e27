"""Sources that draw or bring their own data: copy, recall, digits."""

import numpy as np
import pytest

from seqjax.data import copy, digits, recall
from seqjax.data._random import SPLITS, generator, philox


def test_streams_differ_between_seeds_splits_and_indices():
    keys = [(seed, split, index) for seed in (0, 1, 2**64 - 1) for split in SPLITS for index in (0, 1, 2, 2**64 - 1)]
    drawn = {generator(*key).bytes(16) for key in keys}
    assert len(drawn) == len(keys)
    assert generator(3, "test", 5).bytes(16) == generator(3, "test", np.int64(5)).bytes(16)


def test_copy_says_it_twice():
    source = copy.Source(length=6, min_length=2, symbols=4, examples=50)
    for split, few in (("train", 2), ("validation", 6), ("test", 6)):
        counts = set()
        for index in range(50):
            example = source.example(split, index)
            tokens, count = example["tokens"], len(example["tokens"]) // 2
            assert len(tokens) == 2 * count + 1 and tokens[count] == 4
            np.testing.assert_array_equal(tokens[:count], tokens[count + 1 :])
            np.testing.assert_array_equal(example["scored"], [False] * (count + 1) + [True] * count)
            counts.add(count)
        assert counts == set(range(few, 7))
    assert source.size("train") is None and source.size("test") == 50
    assert source.baselines("test") == {"accuracy": {"guessing": 0.25}}


def test_copy_draws_every_symbol_alike():
    source = copy.Source(length=50, symbols=5, examples=100)
    drawn = np.concatenate([source.example("test", i)["tokens"][:50] for i in range(100)])
    np.testing.assert_allclose(np.bincount(drawn) / len(drawn), 0.2, atol=0.03)


def test_recall_asks_for_each_key_once():
    source = recall.Source(pairs=5, keys=7, values=4, examples=40)
    orders = set()
    for index in range(40):
        example = source.example("test", index)
        shown, asked = example["tokens"].reshape(2, 5, 2)
        assert len(set(shown[:, 0])) == 5 and shown[:, 0].max() < 7 <= shown[:, 1].min()
        assert dict(shown) == dict(asked) and len(dict(asked)) == 5
        np.testing.assert_array_equal(example["scored"], [False] * 10 + [False, True] * 5)
        orders.add(tuple(np.argsort(shown[:, 0])[np.argsort(np.argsort(asked[:, 0]))]))
    assert len(orders) > 20  # of 120: the queries are shuffled


def test_recall_baseline_is_beaten_only_with_the_link():
    assert recall.Source(pairs=4, values=1, examples=9).baselines("test") == {
        "accuracy": {"most frequent value": 1.0},
    }
    many = recall.Source(pairs=4, values=100_000, examples=50).baselines("test")
    assert many["accuracy"]["most frequent value"] == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize(
    "build, words",
    [
        (lambda: copy.Source(length=3, min_length=4), "min_length=4 is above length=3"),
        (lambda: copy.Source(seed=-1), "seed: got -1"),
        (lambda: copy.Source(seed=2**64), "seed: got 18446744073709551616"),
        (lambda: copy.Source(symbols=0), "symbols: got 0, wanted an int of at least 1"),
        (lambda: copy.Source(examples=0), "examples: got 0"),
        (lambda: recall.Source(pairs=5, keys=4), "keys=4 is below pairs=5"),
        (lambda: recall.Source(pairs=1.5), "pairs: got 1.5"),
    ],
)
def test_options_that_cannot_be(build, words):
    with pytest.raises(ValueError, match=words):
        build()


def test_digits_are_split_evenly_in_every_class():
    pytest.importorskip("sklearn")
    source = digits.Source()
    sizes = {split: source.size(split) for split in source.spec.splits}
    assert sizes == {"train": 1_297, "validation": 168, "test": 332}
    for split, share in {"train": 0.722, "validation": 0.093, "test": 0.185}.items():
        labels = [source.example(split, i)["label"] for i in range(sizes[split])]
        np.testing.assert_allclose(np.bincount(labels) / 179.7, share, atol=0.025)
        everything = np.concatenate([source.example(split, i)["features"] for i in range(sizes[split])])
        assert everything.min() == 0 and everything.max() == 1
    assert 0.09 < source.baselines("test")["accuracy"]["majority class"] < 0.12


@pytest.mark.parametrize("key", [[0, 0], [7, 2**63 + 1]])
@pytest.mark.parametrize("counter", [[0, 0, 0, 5], [3, 1, 0, 0]])
def test_a_key_is_taken_as_it_is(key, counter):
    wanted = np.random.Philox(key=np.array(key, np.uint64), counter=np.array(counter, np.uint64))
    np.testing.assert_array_equal(philox(key, counter).random_raw(9), wanted.random_raw(9))
