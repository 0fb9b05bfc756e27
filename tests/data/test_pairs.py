"""Examples with a source: how they are drawn, padded and checked."""

import dataclasses

import numpy as np
import pytest

from seqjax import spec
from seqjax.data import Batches, Loader, Source, reverse
from seqjax.types import DataError

V, LONGEST = 9, 4


@dataclasses.dataclass(kw_only=True)
class Pairs(Source):
    """The sources it is given, each with as many tokens as its number tells."""

    sources: list
    source_vocabulary: int | None = V

    def __post_init__(self):
        super().__post_init__()
        source = None if self.source_vocabulary is None else (self.source_vocabulary, LONGEST)
        self.spec = spec.tokens(V, 8, source=source)

    def size(self, split):
        return len(self.sources)

    def example(self, split, index):
        source = self.sources[index]
        return {"tokens": np.arange(1 + index)} | ({} if source is None else {"source": source})


def batches(sources, split="train", batch=4, source_vocabulary=V, **loader):
    pairs = Pairs(sources=sources, source_vocabulary=source_vocabulary)
    return Batches(pairs, split, Loader(batch_size=batch, **loader))


def test_a_bucket_holds_the_longer_of_tokens_and_source():
    """Example i has i + 1 tokens. Without buckets, sources are padded to the longest of them."""
    given = [[1, 2, 3, 4], [], [8], [5, 6], [7, 7, 7]]
    for loader, shapes in (
        ({}, {(8, LONGEST)}),
        (dict(buckets=(2, 8)), {(2, 2), (8, LONGEST)}),
        (dict(buckets=(3, 5)), {(3, 3), (5, LONGEST)}),
    ):
        seen, found = 0, set()
        of = batches([np.array(s, np.int32) for s in given], **loader)
        for batch in of.iterate(0, of.per_epoch):
            found.add((batch["mask"].shape[1], batch["mask_S"].shape[1]))
            assert batch["source"].shape == batch["mask_S"].shape
            assert batch["source"].dtype == np.int32 and batch["mask_S"].dtype == bool
            for row in range(4):
                source = batch["source"][row][batch["mask_S"][row]]
                rest = batch["source"][row][~batch["mask_S"][row]]
                wanted = given[int(batch["mask"][row].sum()) - 1] if batch["weight"][row] else []
                np.testing.assert_array_equal(source, wanted)
                assert not rest.any() and list(batch["mask_S"][row]) == sorted(batch["mask_S"][row])[::-1]
                seen += len(source)
        assert seen == sum(map(len, given)) and found == shapes
        kinds = {(b["mask"].shape[1], b["mask_S"].shape[1], b["source"].shape[1]) for b, _ in of.kinds}
        assert kinds == {(L, S, S) for L, S in shapes}


def test_a_source_beyond_the_last_bucket_is_refused_or_cut_at_its_end():
    given = [np.array(s, np.int32) for s in ([1, 2, 3, 4], [5], [6, 7, 8])]
    with pytest.raises(DataError, match=r"record 0 of split 'train' has length 4, the last bucket is 3"):
        _ = batches(given, buckets=(3,), batch=1).first
    for too_long in ("truncate", "crop"):
        batch = batches(given, buckets=(2,), too_long=too_long, batch=3).first
        rows = {tuple(s[m].tolist()) for s, m in zip(batch["source"], batch["mask_S"], strict=True)}
        assert rows == {(1, 2), (5,), (6, 7)} and sorted(batch["mask"].sum(axis=1)) == [1, 2, 2]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.arange(5), "source has length 5, its spec promises 4 at most"),
        (np.array([1, V]), "source[1] is 9, wanted 0 to 8"),
        (np.array([-1]), "source[0] is -1, wanted 0 to 8"),
        (np.array([1.0]), "source is float64, wanted integers"),
        (np.array([[1, 2]]), "source has shape [1, 2], wanted [1]"),
        (None, "its spec promises 'source'"),
    ],
)
@pytest.mark.parametrize("overlong", ["error", "truncate", "crop"])
def test_a_bad_source_is_named(bad, words, overlong):
    good = np.arange(3)
    with pytest.raises(DataError) as error:
        batches([good, good, bad, good], too_long=overlong)[0]
    assert "record 2 of split 'train'" in str(error.value) and words in str(error.value)


def test_a_source_that_the_spec_does_not_know_is_refused():
    with pytest.raises(DataError, match=r"record 0 .* has a field 'source' .* add it to spec\.fields"):
        batches([np.arange(3)] * 4, source_vocabulary=None)[0]
    assert "source" not in batches([None] * 4, source_vocabulary=None)[0]


def test_reverse_is_backwards_between_its_marks():
    source = reverse.Source(length=6, min_length=2, symbols=4, examples=50)
    assert (source.spec.vocabulary, source.spec.source_vocabulary, source.spec.end) == (6, 4, 5)
    assert (source.spec.length, source.spec.source_length) == (8, 6)
    for split, few in (("train", 2), ("validation", 6), ("test", 6)):
        counts = set()
        for index in range(50):
            example = source.example(split, index)
            np.testing.assert_array_equal(example["tokens"], [4, *example["source"][::-1], 5])
            np.testing.assert_array_equal(example["scored"], [False] + [True] * (len(example["source"]) + 1))
            counts.add(len(example["source"]))
        assert counts == set(range(few, 7))


def test_guessing_reverse_is_right_as_often_as_the_baseline_says():
    source = reverse.Source(length=5, symbols=3, examples=500)
    answers = [source.example("test", i)["tokens"][1:] for i in range(500)]
    right = np.mean([answer == np.array([1, 1, 1, 1, 1, 4]) for answer in answers])
    assert source.baselines("test")["accuracy"]["guessing"] == pytest.approx(right, abs=0.03)
    with pytest.raises(ValueError, match="min_length=4 is above length=3"):
        reverse.Source(length=3, min_length=4)
