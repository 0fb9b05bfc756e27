"""Sources that draw or bring their own data: copy, recall, mqar, digits."""

import numpy as np
import pytest

from seqjax.data import copy, digits, mqar, recall
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


@pytest.mark.parametrize("filler", ["random", "zero"])
def test_mqar_tags_each_key_with_its_value_where_it_comes_again(filler):
    source = mqar.Source(length=30, pairs=5, vocabulary=40, filler=filler, examples=60, train_examples=9)
    places, rest = set(), []
    for index in range(60):
        example = source.example("test", index)
        tokens, tags, scored = (example[name].tolist() for name in ("tokens", "tags", "scored"))
        value_of = dict(zip(tokens[:10:2], tokens[1:10:2], strict=True))
        assert len(value_of) == 5 and min(value_of) > 0 and max(value_of) < 20
        assert len(set(value_of.values())) == 5 and min(value_of.values()) >= 20
        asked = [t for t in range(30) if scored[t]]
        assert sorted(tokens[t] for t in asked) == sorted(value_of)
        assert all(t >= 10 and t % 2 == 0 and tags[t] == value_of[tokens[t]] for t in asked)
        assert not any(tags[t] for t in range(30) if t not in asked)
        places |= set(asked)
        rest += [tokens[t] for t in range(10, 30) if t not in asked]
    assert places == set(range(10, 30, 2))
    assert set(rest) == ({0} if filler == "zero" else set(range(40)))
    assert source.size("train") == 9 and mqar.Source().size("train") is None
    assert source.baselines("test") == {"accuracy": {"one value of the example": 0.2}}


@pytest.mark.parametrize("power", [0.01, 1.0])
def test_mqar_asks_at_distances_of_a_power_law(power):
    source = mqar.Source(length=12, pairs=1, vocabulary=6, power=power, examples=4000)
    asked = [np.argmax(source.example("test", i)["scored"]) for i in range(4000)]
    likely = np.array([1.0, 2.0, 3.0, 4.0, 5.0]) ** (power - 1)
    np.testing.assert_allclose(np.bincount(asked)[2::2] / 4000, likely / likely.sum(), atol=0.03)


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
        (lambda: mqar.Source(length=63), "length=63 is odd"),
        (lambda: mqar.Source(vocabulary=7, pairs=1), "vocabulary=7 is odd"),
        (lambda: mqar.Source(length=64, pairs=17), "length=64 is too small for pairs=17: raise it to 68"),
        (lambda: mqar.Source(vocabulary=8, pairs=4), "vocabulary=8 is too small for pairs=4: raise it to 10"),
        (lambda: mqar.Source(power=0), "power: got 0, wanted a float above 0"),
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
