"""Oversampling: every class equally often in an epoch, by a map of indices that a resumed run repeats."""

import collections

import numpy as np
import pytest

from seqjax.data import Batches, Loader, Streams, copy
from seqjax.data.table import Source
from seqjax.data.text import Source as Text
from seqjax.types import ConfigError

SIZES = {"a": 11, "b": 4, "c": 1}


@pytest.fixture
def source(tmp_path):
    lines = [f"{label}{'x' * i},{label}" for label, n in SIZES.items() for i in range(n)]
    (tmp_path / "t.csv").write_text("\n".join(["t,y", *lines]))
    return Source(train=str(tmp_path / "t.csv"), text="t", label="y")


def epoch(batches, number):
    """How often each example is in an epoch: (label, length) -> count."""
    seen = collections.Counter()
    for step in range(number * batches.per_epoch, (number + 1) * batches.per_epoch):
        batch = batches[step]
        for row in np.flatnonzero(batch["weight"]):
            seen[int(batch["label"][row]), int(batch["mask"][row].sum())] += 1
    return seen


@pytest.mark.parametrize("buckets", [(), (3, 20)])
def test_classes_are_equally_frequent_and_examples_of_a_class_nearly_so(source, buckets):
    loader = Loader(batch_size=4, buckets=buckets, oversample=True)
    batches = Batches(source, "train", loader, seed=3, shuffle=True)
    seen = epoch(batches, 0)
    assert seen == epoch(batches, 5)
    for label, n in enumerate(SIZES.values()):
        counts = [count for (of, _), count in seen.items() if of == label]
        assert sum(counts) == 11 and len(counts) == n and max(counts) - min(counts) <= 1
    again = Batches(source, "train", loader, seed=3, shuffle=True)
    for step in (7, 2, batches.per_epoch + 1):  # as after a resume: no batch before it is read
        for name, array in again[step].items():
            np.testing.assert_array_equal(array, batches[step][name])
    first, later = batches[0]["tokens"], batches[batches.per_epoch]["tokens"]
    assert first.shape != later.shape or (first != later).any()  # the order is that of the epoch


def test_only_training_repeats_examples(source):
    whole = Batches(source, "train", Loader(batch_size=4, oversample=True))
    assert sum(epoch(whole, 0).values()) == sum(SIZES.values()) == len(epoch(whole, 0))
    assert source.spec.counts == tuple(SIZES.values())


def test_what_cannot_be_oversampled_is_refused(tmp_path):
    loader = Loader(batch_size=4, oversample=True)
    with pytest.raises(ConfigError, match="this one is endless: remove it"):
        Batches(copy.Source(), "train", loader, shuffle=True)
    (tmp_path / "t.csv").write_text("t\na\nb\nc\nd")
    with pytest.raises(ConfigError, match=r"loader\.oversample needs one label per example, this source has none"):
        Batches(Source(train=str(tmp_path / "t.csv"), text="t"), "train", loader, shuffle=True)
    (tmp_path / "t.txt").write_text("abcdefgh" * 30)
    with pytest.raises(ConfigError, match=r"running text in its order: remove loader\.oversample"):
        Streams(Text(path=str(tmp_path / "t.txt"), length=4), "train", loader)
