"""Batches in reading order: rows go on where they ended, and a reset stands only where something begins."""

import dataclasses
import itertools
import pickle

import numpy as np
import pytest

from seqjax import spec
from seqjax.data import Loader, Source, Streams, copy
from seqjax.types import ConfigError, DataError


@dataclasses.dataclass(kw_only=True)
class Counted(Source):
    """The tokens 0, 1, 2 ... as running text, with documents that begin at some of them."""

    count: int
    length: int
    begins: tuple = ()

    def __post_init__(self):
        super().__post_init__()
        self.spec = spec.tokens(self.count, self.length + 1, reset=bool(self.begins), splits=("train", "validation"))

    def stream(self, split):
        tokens_N = np.arange(self.count, dtype=np.int32)
        return {"tokens": tokens_N} | ({"reset": np.isin(tokens_N, self.begins)} if self.begins else {})


def streams(count, length, batch, begins=(), split="validation", **loader):
    return Streams(Counted(count=count, length=length, begins=begins), split, Loader(batch_size=batch, **loader))


def rows(of, epoch=0):
    """The tokens that each row reads and then is asked for in an epoch, window by window."""
    found = [[] for _ in range(of.loader.batch_size)]
    for step in range(epoch * of.per_epoch, (epoch + 1) * of.per_epoch):
        batch = of[step]
        for row in range(of.loader.batch_size):
            assert (batch["weight"][row] > 0) == batch["mask"][row].any()
            if batch["weight"][row]:
                found[row].append(batch["tokens"][row][batch["mask"][row]])
    return found


SIZES = [(25, 3, 2), (25, 3, 4), (26, 3, 4), (24, 1, 5), (9, 8, 1), (14, 4, 4), (3, 8, 4), (1000, 35, 20)]


@pytest.mark.parametrize(("count", "length", "batch"), SIZES)
def test_rows_go_on_where_they_ended_and_each_token_is_asked_for_once(count, length, batch):
    of = streams(count, length, batch)
    found = rows(of)
    for windows in found:
        for before, after in itertools.pairwise(windows):
            assert len(before) == length + 1 and after[0] == before[-1]
    asked = np.concatenate([window[1:] for windows in found for window in windows])
    assert asked.tolist() == list(range(1, count))  # of the first row first
    spans = [len(windows) for windows in found]
    assert max(spans) - min(spans) <= 1 and max(spans) == of.per_epoch and sum(spans) == of.size


def test_every_epoch_is_the_same():
    of = streams(26, 3, 4, begins=(0, 5, 17))
    for step in range(of.per_epoch):
        for key, value in of[step].items():
            np.testing.assert_array_equal(of[step + 3 * of.per_epoch][key], value)


@pytest.mark.parametrize("begins", [(), (0,), (0, 5, 6, 12, 17, 25)])
@pytest.mark.parametrize("batch", [1, 2, 4, 12])
def test_resets_stand_where_documents_and_epochs_begin_and_nowhere_else(begins, batch):
    of = streams(26, 3, batch, begins)
    for step in range(2 * of.per_epoch):
        got = of[step]
        first = (np.arange(4) == 0)[None] & (step % of.per_epoch == 0)
        real = got["mask"]
        assert (got["reset"][real] == (np.isin(got["tokens"], begins) | first)[real]).all()
        assert got["reset"].dtype == bool


def test_a_batch_is_a_function_of_its_number():
    """Any order of access, another object, and one that has been sent to a worker give the same bits."""
    of = streams(100, 3, 4, begins=(0, 50))
    in_order = list(of.iterate(0, 20))
    other = pickle.loads(pickle.dumps(streams(100, 3, 4, begins=(0, 50))))
    for step in np.random.default_rng(0).permutation(20):
        for key, value in in_order[step].items():
            np.testing.assert_array_equal(other[int(step)][key], value)


@pytest.mark.parametrize(("count", "length", "batch"), SIZES)
@pytest.mark.parametrize("begins", [(), (0, 2), (0, 11, 12, 20)])
def test_the_longest_stretch_is_what_a_loop_counts(count, length, batch, begins):
    of, most = streams(count, length, batch, begins), 0
    for windows in rows(of):
        run = 0
        for token in (token for window in windows for token in window[:-1]):
            run = 1 if token in begins else run + 1
            most = max(most, run)
    assert of.longest == most


def test_independent_examples_are_refused():
    with pytest.raises(ConfigError, match=r"independent of each other.*data\.name='text'"):
        Streams(copy.Source(), "train", Loader())


def test_buckets_are_refused():
    with pytest.raises(ConfigError, match=r"loader.buckets=\[4\]: leave them out"):
        streams(25, 3, 2, buckets=(4,))


def test_more_rows_than_windows_are_refused_in_training_only():
    with pytest.raises(DataError, match=r"8 windows of 3 predictions, a batch takes 9: lower loader\.batch_size"):
        streams(25, 3, 9, split="train")
    assert streams(25, 3, 8, split="train").per_epoch == streams(25, 3, 9).per_epoch == 1


def test_tokens_out_of_range_are_named():
    of = streams(25, 3, 2)
    of.stream["tokens"][7] = 25
    with pytest.raises(DataError, match=r"window 2 of split 'validation': tokens\[1\] is 25, wanted 0 to 24"):
        list(of.iterate(0, of.per_epoch))


RANDOM = [(1000, 35, 20), (1000, 10, 3), (1000, 10, 1), (57, 4, 2)]


@pytest.mark.parametrize(("count", "length", "batch"), RANDOM)
def test_windows_of_random_length_ask_for_each_token_once_in_each_epoch(count, length, batch):
    """They have one shape, are never longer than the others, and end at other places in another epoch or seed."""
    source, loader = Counted(count=count, length=length), Loader(batch_size=batch, random_lengths=0.5)
    one, other = (Streams(source, "train", loader, seed=seed, shuffle=True) for seed in (0, 1))
    ends = []
    for of, epoch in ((one, 0), (one, 1), (other, 0)):
        found = rows(of, epoch)
        asked = np.concatenate([window[1:] for windows in found for window in windows])
        assert asked.tolist() == list(range(1, count))
        for windows in found:
            assert all(before[-1] == after[0] for before, after in itertools.pairwise(windows))
        lengths = [len(window) - 1 for window in found[0]]
        assert max(lengths) <= length and min(lengths[:-1]) >= length // 4 and len(set(lengths)) > 1
        assert np.mean(lengths) == pytest.approx(0.75 * length, rel=0.25)
        ends.append(np.cumsum(lengths).tolist())
    assert ends[0] != ends[1] and ends[0] != ends[2]
    again = Streams(source, "train", loader, seed=0, shuffle=True)
    for step in (one.per_epoch + 1, 2, 0):  # a function of the number of the batch, in any order
        for key, value in again[step].items():
            np.testing.assert_array_equal(one[step][key], value)


def test_windows_that_would_be_empty_are_refused():
    with pytest.raises(ConfigError, match=r"loader\.random_lengths=0\.9 leaves windows without a prediction"):
        loader = Loader(batch_size=2, random_lengths=0.9)
        Streams(Counted(count=40, length=3), "train", loader, seed=0, shuffle=True)
