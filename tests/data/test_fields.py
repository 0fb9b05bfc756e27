"""Sources with fields of their own: what a batch makes of them, what a crop does to them, and what is refused."""

import dataclasses
import re

import launch
import numpy as np
import pytest

from seqjax.data import Batches, Loader, Source, Streams
from seqjax.spec import Field, Spec
from seqjax.types import ConfigError, DataError

N, V, BUCKETS = 12, 50, (3, 5, 8)
TAGGED = {
    "tokens": Field("ids", size=V),
    "tags": Field("ids", size=4),
    "span": Field("place", axis=None, shape=(2,), into="L"),
    "topics": Field("bool", axis=None, shape=(5,)),
    "pulse": Field("real", shape=(2,), missing=True),
    "words": Field("ids", size=9, axis="T"),
}
ALIGNED = {
    "features": Field("real", shape=(2,)),
    "parent": Field("place", into="L"),
    "onset": Field("place", axis="T", into="L"),
    "target": Field("real", axis=None, missing=True),
}


@dataclasses.dataclass(kw_only=True)
class Drawn(Source):
    """Random values of any table; record i has (7 i mod 8) + 1 places on L, and its tokens count on from i."""

    fields: dict
    without: tuple = ()

    def __post_init__(self):
        super().__post_init__()
        fields = {name: field for name, field in self.fields.items() if name not in self.without}
        self.spec = Spec(fields, {"L": 8, "T": 4} if {"words", "onset"} & fields.keys() else {"L": 8})

    def size(self, split):
        return N

    def example(self, split, index):
        random, length = np.random.default_rng(index), {"L": 7 * index % 8 + 1, "T": index % 5}
        found = {}
        for name, field in self.fields.items():
            shape = (*([] if field.axis is None else [length[field.axis]]), *field.shape)
            real = random.normal(size=shape)
            if field.kind == "ids":
                found[name] = random.integers(field.size, size=shape)
            elif field.kind == "place":
                found[name] = random.integers(length["L"], size=shape)
            else:
                found[name] = real > 0 if field.kind == "bool" else np.where(field.missing & (real > 1), np.nan, real)
        if "parent" in found:
            found["parent"] = np.arange(length["L"]) // 2 * 2  # the left one of each pair
        if "tokens" in found:
            found["tokens"] = index + np.arange(length["L"])
        return {name: value for name, value in found.items() if name not in self.without}


def batches(source, shuffle=False, **loader):
    return Batches(source, "train", Loader(**{"batch_size": 4, **loader}), shuffle=shuffle)


@pytest.mark.parametrize("fields", [TAGGED, ALIGNED])
def test_batches_are_padded_as_a_loop_pads_them(fields):
    of = batches(source := Drawn(fields=fields), buckets=BUCKETS)
    for step in range(of.per_epoch):
        batch, (bucket, indices, _) = of[step], of._rows(step)
        sizes, wanted = {"L": BUCKETS[bucket], "T": 4, None: None}, {"weight": np.arange(4) < len(indices)}
        for name, field in fields.items():
            shape = (4, *field.shape) if field.axis is None else (4, sizes[field.axis], *field.shape)
            mask = wanted.setdefault({"L": "mask", "T": "mask_T"}.get(field.axis), np.zeros(shape[:2], bool))
            value, seen = np.zeros(shape), np.zeros(shape, bool)
            for row, index in enumerate(indices):
                given = source.example("train", int(index))[name]
                at = row if field.axis is None else (row, slice(len(given)))
                value[at], seen[at] = np.nan_to_num(given), ~np.isnan(given)
                mask[at] = True
            wanted |= {name: value} | ({f"{name}_observed": seen} if field.missing else {})
        del wanted[None]
        assert batch.keys() == wanted.keys()
        for name, value in wanted.items():
            np.testing.assert_array_equal(batch[name], np.asarray(value, batch[name].dtype), err_msg=name)
        dtypes = {"ids": np.int32, "place": np.int32, "real": np.float32, "bool": bool}
        assert all(batch[name].dtype == dtypes[field.kind] for name, field in fields.items())
        assert {str(batch[name].dtype) for name in batch.keys() - fields.keys() - {"weight"}} == {"bool"}


@pytest.mark.parametrize("fields", [TAGGED, ALIGNED])
def test_other_axes_keep_their_length_in_every_kind_of_batch(fields):
    of = batches(Drawn(fields=fields), buckets=BUCKETS)
    for batch, _ in of.kinds:
        L = batch["mask"].shape[1]
        for name, column in of.spec.columns.items():
            assert batch[name].shape == (4, *({"L": [L], "T": [4], None: []}[column.axis]), *column.shape)
    assert [batch["mask"].shape[1] for batch, _ in of.kinds] == list(BUCKETS)


@pytest.mark.parametrize("too_long", ["truncate", "crop"])
def test_a_crop_moves_places_and_drops_examples_that_point_outside(too_long):
    """Where it begins is seen in the same source without places, of which no example is dropped."""
    fields = {**TAGGED, **{name: ALIGNED[name] for name in ("parent", "onset")}}
    options = dict(buckets=(4,), too_long=too_long, shuffle=True)
    of, plain = (batches(Drawn(fields=fields, without=w), **options) for w in ((), ("span", "parent", "onset")))
    dropped = moved = 0
    for step in range(30 * of.per_epoch):
        batch, whole, indices = of[step], plain[step], of._rows(step)[1]
        for row, index in enumerate(indices):
            example = of.source.example("train", int(index))
            start, n = int(whole["tokens"][row, 0] - index), min(len(example["tokens"]), 4)
            moving = {name: example[name] - start for name in ("span", "onset")}
            moving["parent"] = example["parent"][start : start + n] - start
            if any(((value < 0) | (value >= 4)).any() for value in moving.values()):
                dropped += 1
                assert not any(array[row].any() for array in batch.values())
                continue
            moved += start > 0
            assert batch["weight"][row] == 1 and batch["mask"][row].sum() == n
            for name, value in (moving | {"tags": example["tags"][start : start + n]}).items():
                mask = {"span": ..., "onset": batch["mask_T"][row]}.get(name, batch["mask"][row])
                np.testing.assert_array_equal(batch[name][row][mask], value)
    assert dropped and (moved or too_long == "truncate")


FINE = {
    "tokens": [1, 2, 3],
    "tags": [0, 1, 2],
    "span": [0, 2],
    "topics": [True] * 5,
    "pulse": np.ones((3, 2)),
    "words": [8],
}


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"loud": 1.0}, "has a field 'loud' that its spec does not name: add it to spec.fields"),
        ({"tags": None}, "has tokens, span, topics, pulse, words, but its spec promises 'tags'"),
        ({"tags": [0, 1]}, "tags has shape [2], wanted [3], as long as tokens"),
        ({"pulse": np.ones((3, 1))}, "pulse has shape [3, 1], wanted [3, 2]"),
        ({"topics": [True]}, "topics has shape [1], wanted [5]"),
        ({"words": 3}, "words has shape [], wanted [T]"),
        ({"words": [1] * 5}, "words has length 5, its spec promises 4 at most: raise spec.lengths['T']"),
        ({"topics": [1] * 5}, "topics is int64, wanted bool"),
        ({"span": [0.0, 1.0]}, "span is float64, wanted integers"),
        ({"pulse": np.ones((3, 2), complex)}, "pulse is complex128, wanted numbers"),
        ({"span": [0, 3]}, "span[1] is 3, wanted 0 to 2, a place in the axis 'L' of this example"),
        ({"span": [-1, 1]}, "span[0] is -1, wanted 0 to 2"),
        ({"words": [9]}, "words[0] is 9, wanted 0 to 8"),
        ({"pulse": np.full((3, 2), -np.inf)}, "pulse[0, 0] is -inf, wanted a finite float32 number, or NaN"),
        ({"pulse": np.full((3, 2), 1e39)}, "pulse[0, 0] is 1e+39, wanted a finite float32 number"),
    ],
)
def test_what_the_table_does_not_promise_is_named(bad, words):
    source = Drawn(fields=TAGGED)
    wrong = {name: value for name, value in {**FINE, **bad}.items() if value is not None}
    source.example = lambda split, index: wrong if index == 3 else FINE
    with pytest.raises(DataError) as error:
        batches(source)[0]
    assert str(error.value).startswith("record 3 of split 'train'") and words in str(error.value), error.value


def test_nan_is_refused_where_nothing_may_be_missing():
    source = Drawn(fields={**TAGGED, "pulse": Field("real", shape=(2,))})
    source.example = lambda split, index: {**FINE, "pulse": np.full((3, 2), np.nan)}
    with pytest.raises(DataError, match=r"pulse\[0, 0\] is nan, wanted a finite float32 number \(or missing=True\)"):
        batches(source)[0]


@pytest.mark.parametrize("name", ["span", "words", "topics"])
def test_running_text_has_only_sequences_along_it(name):
    source = Drawn(fields={"tokens": TAGGED["tokens"], name: TAGGED[name]})
    source.stream = lambda split: source.example(split, 7)
    with pytest.raises(ConfigError, match=f"task.carry_state cuts running text into windows, but the field '{name}'"):
        Streams(source, "train", Loader())


def test_a_stream_has_the_fields_of_its_spec():
    source = Drawn(fields={"tokens": TAGGED["tokens"], "tags": TAGGED["tags"]}, without=("tags",))
    source.stream = lambda split: {"tokens": np.arange(9), "tags": np.arange(9) % 4}
    with pytest.raises(DataError, match="the stream of split 'train' has a field 'tags' that its spec does not name"):
        Streams(source, "train", Loader(batch_size=1))


def test_a_dry_run_shows_any_table(tmp_path):
    sections = ("data=inline.fields", "task=inline.fields")
    shown = launch.main("train", "--config", launch.write(tmp_path / "c.json", launch.tiny(*sections)), "--dry_run").out
    for words in (
        r"first phones +\[\d\]",
        r"pulse_observed +bool +\[4, 3\]",
        r"mask_T +bool +\[4, 2\]",
        "topics +bool",
    ):
        assert re.search(words, shown), shown
