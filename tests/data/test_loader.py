"""The loader: which example stands in which batch, what shape it has, and what it refuses."""

import dataclasses
import itertools
import multiprocessing
import os
import signal
import threading
import time

import launch
import numpy as np
import pytest

from seqjax import spec
from seqjax.data import Batches, Loader, Source
from seqjax.data._stored import Stored
from seqjax.data.copy import Source as Copy
from seqjax.types import ConfigError, DataError

N, V = 23, 50
BUCKETS = (3, 5, 8)


@dataclasses.dataclass(kw_only=True)
class Numbered(Source):
    """Record i has label i and (7 i mod 8) + 1 tokens that count on from i; `endless` train."""

    count: int = N
    endless: bool = False

    def __post_init__(self):
        super().__post_init__()
        self.spec = spec.tokens(2**31 - 1, 8, classes=2**31 - 1, scored=True, splits=("train", "validation"))

    def size(self, split):
        return None if self.endless and split == "train" else self.count

    def example(self, split, index):
        tokens_L = (index % 1000 + np.arange(7 * index % 8 + 1)).astype(np.int32)
        return {"tokens": tokens_L, "scored": tokens_L % 2 == 0, "label": np.int32(index % 2**31)}


@dataclasses.dataclass(kw_only=True)
class Given(Source):
    """The records it is given. Functions are called."""

    records: list

    def __post_init__(self):
        super().__post_init__()
        features = self.records and not callable(self.records[0]) and "features" in self.records[0]
        tokens = spec.tokens(V, 4, classes=3, scored=True, reset=True)
        self.spec = spec.features(2, 4, classes=3) if features else tokens

    def size(self, split):
        return len(self.records)

    def example(self, split, index):
        record = self.records[index]
        return record() if callable(record) else record


def batches(source=None, split="train", seed=0, shuffle=True, **loader):
    return Batches(source or Numbered(), split, Loader(**{"batch_size": 4, **loader}), seed=seed, shuffle=shuffle)


def same(a, b):
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and (a[k] == b[k]).all() for k in a
    )


def order(found):
    """The real records of some batches, in order."""
    return [int(label) for batch in found for label, w in zip(batch["label"], batch["weight"], strict=True) if w]


SOURCES = {
    "finite": lambda: batches(buckets=BUCKETS),
    "more rows if short": lambda: batches(buckets=BUCKETS, places=26, batch_size=2),
    "one bucket": lambda: batches(),
    "in file order": lambda: batches(shuffle=False, split="validation", buckets=BUCKETS),
    "endless": lambda: batches(Numbered(endless=True)),
    "cropped": lambda: batches(buckets=(2, 4), too_long="crop"),
}


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_a_batch_is_a_function_of_its_number(make):
    """Any order of access, other objects, and iteration from the middle give the same bits."""
    last = 20
    in_order = [make()[step] for step in range(last)]
    backwards = make()
    for step in np.random.default_rng(0).permutation(last):
        assert same(backwards[int(step)], in_order[step])
    for first in (0, 7):
        assert all(map(same, make().iterate(first, last), in_order[first:]))
        assert len(list(make().iterate(first, last))) == last - first
    assert same(make().first, in_order[0])


@pytest.mark.parametrize("buckets", [(), BUCKETS], ids=["one bucket", "buckets"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_shows_every_example_once(buckets, shuffle):
    of = batches(buckets=buckets, shuffle=shuffle)
    epochs = [[of[e * of.per_epoch + k] for k in range(of.per_epoch)] for e in range(3)]
    for epoch in epochs:
        assert sorted(order(epoch)) == list(range(N))
        assert sum(batch["weight"].sum() for batch in epoch) == N
        for batch in epoch:
            empty = batch["weight"] == 0
            assert not batch["mask"][empty].any() and not batch["tokens"][empty].any()
    assert (order(epochs[0]) != order(epochs[1])) == shuffle
    assert (order(epochs[1]) != order(epochs[2])) == shuffle


def test_another_seed_is_another_order():
    orders = [order(batches(seed=seed).iterate(0, 6)) for seed in (0, 1, 2**31 - 1)]
    assert all(a != b for a, b in itertools.combinations(orders, 2))
    assert all(sorted(o) == list(range(N)) for o in orders)


def test_an_endless_source_never_repeats():
    """Neither within a seed nor between seeds, the largest one included."""
    seeds = (0, 1, 20_261_120, 2**31 - 1)
    rows = [batches(Numbered(endless=True), seed=seed)._rows(step)[1] for seed in seeds for step in (0, 1, 2, 10**6)]
    rows = np.concatenate(rows)
    assert len(set(rows.tolist())) == len(rows) and rows.min() >= 0


@pytest.mark.parametrize("name", SOURCES)
def test_a_mean_over_kinds_is_that_over_an_epoch(name):
    of = SOURCES[name]()
    lengths = [of[step]["tokens"].shape[1] for step in range(of.per_epoch or 1)]
    assert of.mean(lambda batch: batch["tokens"].shape[1]) == pytest.approx(np.mean(lengths))
    assert [batch["tokens"].shape[1] for batch, _ in of.kinds] == sorted(set(lengths))


def test_padding_is_to_the_smallest_bucket_that_fits():
    of = batches(buckets=BUCKETS)
    for batch in of.iterate(0, 3 * of.per_epoch):
        B, L = batch["tokens"].shape
        assert batch["mask"].shape == batch["scored"].shape == (B, L)
        for row in np.flatnonzero(batch["weight"]):
            example = of.source.example("train", int(batch["label"][row]))
            n = len(example["tokens"])
            assert min(b for b in BUCKETS if b >= n) == L
            assert (batch["mask"][row] == (np.arange(L) < n)).all()
            assert (batch["tokens"][row, :n] == example["tokens"]).all() and not batch["tokens"][row, n:].any()
            assert (batch["scored"][row, :n] == example["scored"]).all() and not batch["scored"][row, n:].any()


@pytest.mark.parametrize("buckets", [(), (8,), (4, 8), BUCKETS, (1, 2, 3, 4, 5, 6, 7, 8)])
def test_there_are_no_more_shapes_than_buckets(buckets):
    of = batches(buckets=buckets)
    assert len({batch["tokens"].shape for batch in of.iterate(0, 2 * of.per_epoch)}) <= max(len(buckets), 1)


def test_short_buckets_have_more_rows():
    """As many as fit into `places`, in multiples of `batch_size`, and no fewer than that."""
    of = batches(buckets=BUCKETS, places=26, batch_size=2)
    epoch = [of[step] for step in range(of.per_epoch)]
    assert {batch["tokens"].shape for batch in epoch} == {(8, 3), (4, 5), (2, 8)}
    assert {batch["tokens"].shape for batch, _ in of.kinds} == {(8, 3), (4, 5), (2, 8)}
    assert sorted(order(epoch)) == list(range(N))
    places = [batch["mask"].size for batch in epoch]
    assert of.tokens == pytest.approx(np.mean(places))
    assert of.fill(10**6) == pytest.approx(sum(batch["mask"].sum() for batch in epoch) / sum(places))
    assert batches(buckets=(8,), places=3)[0]["tokens"].shape == (4, 8)
    with pytest.raises(ValueError, match="places=26 without buckets"):
        Loader(places=26)


def test_overlong_examples_are_refused_with_both_lengths():
    words = r"record 1 of split 'train' has length 8, the last bucket is 5: .*loader\.too_long"
    with pytest.raises(DataError, match=words):
        batches(buckets=(3, 5), shuffle=False)
    of = batches(buckets=(5,), shuffle=False)  # found on the way: nothing but reading tells the lengths
    with pytest.raises(DataError, match=words):
        list(of.iterate(0, of.per_epoch))


@dataclasses.dataclass(kw_only=True)
class Listed(Stored):
    """Validation has one text that is longer than all others."""

    def __post_init__(self):
        super().__post_init__()
        tokens = lambda *lengths: [np.zeros(n, np.int32) for n in lengths]
        self.keep("tokens", V, {"train": tokens(3, 5, 5, 2), "validation": tokens(1, 5, 8)})


class Measured(Numbered):
    """Knows its lengths, and cannot be read."""

    def lengths(self, split):
        return 7 * np.arange(self.count) % 8 + 1

    def example(self, split, index):
        raise AssertionError("nothing need be read")


def test_an_overlong_example_is_refused_before_any_batch_where_lengths_are_known():
    words = r"record {} of split 'validation' has length 8, the last bucket is 5: .*loader\.too_long"
    with pytest.raises(DataError, match=words.format(2)):
        batches(Listed(), "validation", shuffle=False, buckets=(5,))
    with pytest.raises(DataError, match=words.format(1)):
        batches(Measured(), "validation", shuffle=False, buckets=(5,))
    assert batches(Listed(), buckets=(5,)).per_epoch == 1
    assert batches(Listed(), "validation", shuffle=False).per_epoch == 1  # no buckets: one that holds all
    assert batches(Measured(), buckets=(5,), too_long="truncate").per_epoch == 6


@pytest.mark.parametrize("shuffle", [True, False])
def test_only_train_may_be_endless(shuffle):
    source = Numbered()
    source.size = lambda split: None
    assert batches(source, shuffle=shuffle).per_epoch is None
    with pytest.raises(DataError, match="split 'validation' is endless, only train may be"):
        batches(source, "validation", shuffle=shuffle)


@pytest.mark.parametrize(("overlong", "shuffle"), [("truncate", True), ("truncate", False), ("crop", False)])
def test_overlong_examples_are_cut_at_the_end(overlong, shuffle):
    """`crop` too, where nothing is random: in validation and test."""
    of = batches(buckets=(2, 4), too_long=overlong, shuffle=shuffle)
    for batch in of.iterate(0, of.per_epoch):
        for row in np.flatnonzero(batch["weight"]):
            wanted = of.source.example("train", int(batch["label"][row]))["tokens"][:4]
            assert (batch["tokens"][row][batch["mask"][row]] == wanted).all()


def test_cropping_takes_a_window_that_changes_with_epoch_and_seed():
    starts = {}
    for seed, epoch in itertools.product((0, 1), range(6)):
        of = batches(buckets=(4,), too_long="crop", seed=seed)
        for batch in of.iterate(epoch * of.per_epoch, (epoch + 1) * of.per_epoch):
            for row in np.flatnonzero(batch["weight"]):
                label, mask = int(batch["label"][row]), batch["mask"][row]
                whole = of.source.example("train", label)
                n = min(len(whole["tokens"]), 4)
                assert mask.sum() == n
                start = int(batch["tokens"][row, 0] - whole["tokens"][0])
                assert 0 <= start <= len(whole["tokens"]) - n
                for field in ("tokens", "scored"):
                    assert (batch[field][row, :n] == whole[field][start : start + n]).all()
                starts.setdefault(label, {}).setdefault(seed, []).append(start)
    long = [found for label, found in starts.items() if 7 * label % 8 + 1 == 8]
    assert all(set(found[0] + found[1]) <= set(range(5)) for found in long)
    assert set().union(*(found[0] for found in long)) == set(range(5))  # both ends are reached
    assert any(found[0] != found[1] for found in long)


GOOD = {"tokens": np.array([1, 2], np.int32), "label": 0, "scored": np.ones(2, bool), "reset": np.zeros(2, bool)}
SEEN = {"features": np.zeros((3, 2), np.float32), "label": 0}


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"tokens": np.array([1, V])}, ("record 2", "tokens[1]", f"is {V}", f"0 to {V - 1}")),
        ({"tokens": np.array([-1, 2])}, ("record 2", "tokens[0]", "is -1", f"0 to {V - 1}")),
        ({"label": 3}, ("record 2", "label", "is 3", "0 to 2")),
        ({"label": -1}, ("record 2", "label", "is -1", "0 to 2")),
        ({"label": 1.0}, ("record 2", "label", "float64", "integers")),
        ({"tokens": np.array([1.0, 2.0])}, ("record 2", "tokens", "float64", "integers")),
        ({"tokens": np.array([True, False])}, ("record 2", "tokens", "bool", "integers")),
        ({"tokens": np.array([[1, 2]])}, ("record 2", "tokens", "[1, 2]", "wanted [1]")),
        ({"scored": np.array([True])}, ("record 2", "scored", "[1]", "wanted [2]")),
        ({"reset": np.array([True])}, ("record 2", "reset", "[1]", "wanted [2]")),
        ({"other": 1}, ("record 2", "'other'", "add it to spec.fields")),
    ],
)
def test_bad_tokens_and_labels_are_named(bad, words):
    of = batches(Given(records=[GOOD, GOOD, {**GOOD, **bad}, GOOD]), shuffle=False)
    for read in (lambda: of[0], lambda: list(of.iterate(0, 1)), lambda: of.first):
        with pytest.raises(DataError) as error:
            read()
        assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.array([[0, 0], [0, np.nan]], np.float32), ("record 2", "features[1, 1]", "nan", "finite")),
        (np.array([[np.inf, 0]], np.float32), ("record 2", "features[0, 0]", "inf", "finite")),
        (np.array([["a", "b"]]), ("record 2", "features", "<U1", "numbers")),
        (np.zeros((2, 3), np.float32), ("record 2", "features", "[2, 3]", "[2, 2]")),
        (np.zeros(2, np.float32), ("record 2", "features", "[2]", "[2, 2]")),
    ],
)
def test_bad_features_are_named(bad, words):
    with pytest.raises(DataError) as error:
        batches(Given(records=[SEEN, SEEN, {**SEEN, "features": bad}, SEEN]), shuffle=False)[0]
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize("field", ["tokens", "label"])
def test_a_missing_field_is_named(field):
    record = {k: v for k, v in GOOD.items() if k != field}
    with pytest.raises(DataError, match=f"record 0 .*{field}"):
        batches(Given(records=[record] * 4))[0]


@pytest.mark.parametrize(("count", "shuffle"), [(0, False), (0, True), (3, True)])
def test_too_little_data_is_refused_with_both_counts(count, shuffle):
    with pytest.raises(DataError, match=f"'train' has {count} examples, a batch takes 4"):
        batches(Given(records=[GOOD] * count), shuffle=shuffle)


def test_a_small_split_is_evaluated_in_one_batch():
    of = batches(Numbered(count=3), "validation", shuffle=False)
    assert of.per_epoch == 1 and of[0]["weight"].tolist() == [1, 1, 1, 0]


def test_an_unknown_split_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"no split 'test' .* train, validation"):
        batches(split="test")


@pytest.mark.parametrize("buckets", [(4, 2), (2, 2)])
def test_buckets_are_listed_in_order(buckets):
    with pytest.raises(ValueError, match="shortest first"):
        Loader(buckets=buckets)


def fail():
    raise RuntimeError("the tape is torn")


FAILING = [GOOD] * 5 + [fail] + [GOOD] * 10


def test_a_source_that_raises_is_named_with_its_record():
    """After the batches before it."""
    of = batches(Given(records=FAILING), shuffle=False).iterate(0, 4)
    next(of)
    with pytest.raises(DataError, match=r"record 5 of split 'train': .*RuntimeError: the tape is torn"):
        next(of)


def test_no_memory_is_not_an_error_of_the_data():
    def exhausted():
        raise MemoryError("8 EiB")

    of = batches(Given(records=[exhausted] * 16), shuffle=False).iterate(0, 4)
    with pytest.raises(MemoryError, match="8 EiB"):
        next(of)


def test_a_source_that_hangs_is_given_up():
    gate = threading.Event()
    hang = lambda: gate.wait() and GOOD
    for records, before in (([hang] * 8, 0), ([GOOD] * 4 + [hang] * 4, 1)):
        of = batches(Given(records=records), shuffle=False, timeout=0.2)
        found = of.iterate(0, 2)
        assert len(list(itertools.islice(found, before))) == before
        with pytest.raises(DataError, match=r"0\.2 s \(loader\.timeout\)"):
            next(found)
    with pytest.raises(DataError, match=r"loader\.timeout"):
        batches(Given(records=[hang] * 4), timeout=0.2).first  # noqa: B018
    gate.set()


def test_reading_stops_when_nobody_wants_more():
    of = batches(Numbered(endless=True)).iterate(0, 10**9)
    next(of)
    of.close()
    readers = [t for t in threading.enumerate() if t.name == "seqjax-loader"]
    for thread in readers:
        thread.join(timeout=30)
    assert not any(t.is_alive() for t in readers)


# Workers.


def test_workers_change_nothing_and_leave():
    """Two processes, buckets and partial batches."""
    of = batches(buckets=BUCKETS, num_workers=2)
    plain = list(batches(buckets=BUCKETS).iterate(1, 9))
    read = of.iterate(1, 9)
    assert all(itertools.starmap(same, zip(read, plain, strict=True)))
    assert not multiprocessing.active_children()


def test_a_worker_that_raises_or_dies_ends_the_reading():
    of = batches(Given(records=FAILING), shuffle=False, num_workers=1).iterate(0, 4)
    next(of)
    with pytest.raises(DataError, match=r"record 5 of split 'train': .*RuntimeError: the tape is torn"):
        list(of)
    assert not multiprocessing.active_children()

    of = batches(Numbered(endless=True), num_workers=1).iterate(0, 10**9)
    next(of)
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(DataError, match=r"reading ahead failed: .*exit code -9"):
        list(of)
    assert not multiprocessing.active_children()


ENDLESS = ("train.steps=1000000", "loader.num_workers=1", "loader.timeout=60", "data.examples=1")


def running(tmp_path, *overrides):
    """A run with a worker that has made a step: (process, the worker's id)."""
    process = launch.start(
        "train", "--config", launch.write(tmp_path / "c.json", launch.tiny(*ENDLESS, *overrides)),
        "--workdir", tmp_path / "run",
    )  # fmt: skip
    launch.until(lambda: launch.rows(tmp_path / "run"), process)
    workers = []
    for pid in launch.session(process.pid):
        with open(f"/proc/{pid}/cmdline") as f:
            if "spawn_main" in f.read():
                workers.append(pid)
    (worker,) = workers
    return process, worker


@pytest.mark.slow  # processes of its own; what the reader says of a dead worker is above
@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="reads /proc")
def test_a_run_whose_worker_is_killed_ends_with_a_sentence(tmp_path):
    process, worker = running(tmp_path)
    os.kill(worker, signal.SIGKILL)
    outcome = launch.end(process)
    assert outcome.code == 3
    assert "exit code -9" in outcome.err.splitlines()[-1] and "Traceback" not in outcome.err
    assert launch.gone(process.pid)


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="reads /proc")
def test_workers_end_with_a_killed_parent(tmp_path):
    process, worker = running(tmp_path)
    process.kill()
    deadline = time.monotonic() + 60
    while worker in launch.session(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.communicate()


@pytest.mark.parametrize(
    ("options", "loader", "error", "words"),
    [
        ({"length": 10**9}, {}, ConfigError, ("loader.batch_size=64 rows of 2,000,000,001 tokens", "loader.buckets")),
        ({"length": 10**9}, {"batch_size": 1}, ConfigError, ("lower loader.batch_size or data.length",)),
        (
            {},
            {"batch_size": 2 * 10**9},
            ConfigError,
            ("5 batches are held at once", "at most half of what this machine has"),
        ),
        ({}, {"buckets": (8, 10**9)}, ConfigError, ("rows of 1,000,000,000 tokens",)),
        ({"symbols": 2**31 - 1}, {}, ValueError, ("size: got 2147483648",)),
        ({"examples": 2 * 10**9}, {}, DataError, ("'validation' has 2,000,000,000 examples", "half the memory")),
    ],
)
def test_absurd_sizes_are_refused_before_anything_is_made(options, loader, error, words):
    with pytest.raises(error) as found:
        source = Copy(**options)
        for split in source.spec.splits:
            Batches(source, split, Loader(**loader))
    assert all(word in str(found.value) for word in words), str(found.value)


@pytest.mark.parametrize("workers", [1025, 10**30])
def test_absurdly_many_workers(workers):
    with pytest.raises(ValueError, match=f"workers: got {workers}, wanted an int of at least 0 and at most 1024"):
        Loader(num_workers=workers)
