"""Makes batches of examples: order, padding to buckets, checks, prefetch.

A batch is a pure function of (seed, step): a resumed run needs only its step, not the state of an iterator.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from seqjax.data import _checks
from seqjax.data._ahead import read
from seqjax.data._loader import Loader
from seqjax.data._oversample import oversampled
from seqjax.data._padding import cut, pad
from seqjax.data._random import philox
from seqjax.data._source import Source
from seqjax.spec import Spec, mask_name
from seqjax.types import ConfigError, DataError


class Batches:
    """The batches of one split, by number. `shuffle` draws their order from (seed, epoch); else it is the source's."""

    def __init__(self, source: Source, split: str, loader: Loader, *, seed: int = 0, shuffle: bool = False):
        self.source, self.split, self.loader, self.seed, self.shuffle = source, split, loader, seed, shuffle
        if split not in source.spec.splits:
            raise ConfigError(f"no split {split!r} in this source; it has {', '.join(source.spec.splits)}.")
        self.buckets = tuple(loader.buckets) or (source.spec.length,)
        self.spec = self._spec()
        self.size = self._count()
        batches, rows = loader.prefetch + 1, loader.rows(self.buckets[-1])
        _checks.check_memory(self.spec, loader, self.buckets[-1], batches=batches, rows=rows)
        self._order = (None, None)  # epoch, its order
        if self.size is None:
            if split != "train":
                raise DataError(f"split {split!r} is endless, only train may be: return a number from size({split!r}).")
            if loader.oversample:
                raise ConfigError("loader.oversample needs a finite train split, this one is endless: remove it.")
            self.per_epoch = None
            return
        _checks.order(split, self.size)
        self.rows = [loader.rows(length) for length in self.buckets]
        if self.size == 0 or (shuffle and self.size < loader.batch_size):
            raise DataError(
                f"split {split!r} has {self.size} examples, a batch takes {loader.batch_size}: "
                "lower loader.batch_size or give more data."
            )
        lengths = self._lengths()
        bucket_of = np.zeros(self.size, int) if lengths is None else np.searchsorted(self.buckets, lengths)
        every = oversampled(source, split, seed) if shuffle and loader.oversample else np.arange(self.size)
        self._members = [every[bucket_of[every] == b] for b in range(len(self.buckets))]
        # The batches of one epoch, each as (bucket, number within the bucket).
        self._plan = [(b, k) for b, m in enumerate(self._members) for k in range(-(-len(m) // self.rows[b]))]
        self.per_epoch = len(self._plan)

    def _spec(self) -> Spec:
        """The fields of a batch."""
        return self.source.spec

    def _count(self) -> int | None:
        return self.source.size(self.split)

    def _lengths(self) -> np.ndarray | None:
        """The lengths of all examples after cutting; None if they do not matter, or only reading shows them."""
        source, longest = self.source, self.buckets[-1]
        known = type(source).lengths is not Source.lengths
        if len(self.buckets) == 1 and not (self.loader.buckets and known):
            return None
        lengths = source.lengths(self.split)
        if self.loader.too_long == "error" and (lengths > longest).any():
            index = int(np.argmax(lengths > longest))
            raise self._overlong(index, lengths[index])
        return np.minimum(lengths, longest)

    def _overlong(self, index: int, length: int) -> DataError:
        return DataError(
            f"{self._where(index)} has length {length}, the last bucket is {self.buckets[-1]}: "
            "raise loader.buckets or set loader.too_long to 'truncate' or 'crop'."
        )

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        """Batch number `step`, counted over all epochs: (B, L) arrays and `weight` (B,)."""
        return self.part(step, None)

    def part(self, step: int, rows: np.ndarray | None) -> dict[str, np.ndarray]:
        """Some rows of batch number `step`; only their examples are read. None means all rows."""
        bucket, indices, epoch = self._rows(step)
        B = self.loader.rows(self.buckets[bucket]) if rows is None else len(rows)
        mine = indices if rows is None else indices[rows[rows < len(indices)]]
        examples = [self._example(int(i)) for i in mine]
        _checks.values(examples, mine, self.spec, self._where)
        examples = [self._cut(example, int(i), epoch) for example, i in zip(examples, mine, strict=True)]
        return pad(examples, self.spec, self._padded(bucket), B)

    def _padded(self, bucket: int) -> dict[str, int]:
        """Axis -> the length that it is padded to in a bucket."""
        lengths, longest = dict(self.spec.lengths), self.buckets[bucket]
        if self.loader.buckets and "S" in self.spec.bucketed:
            lengths["S"] = min(lengths["S"], longest)
        return lengths | {"L": longest}

    def _rows(self, step: int):
        """The bucket, the indices of the examples and the epoch of batch `step`."""
        if self.per_epoch is None:
            B = self.loader.rows(self.buckets[-1])
            start = (self.seed << 32) + step * B
            return len(self.buckets) - 1, np.arange(start, start + B), 0
        epoch, k = divmod(step, self.per_epoch)
        known = self._order
        if known[0] != epoch:
            known = self._order = (epoch, self._order_of(epoch))
        plan, members = known[1]
        bucket, k = self._plan[plan[k]]
        B = self.rows[bucket]
        return bucket, members[bucket][k * B : (k + 1) * B], epoch

    def _order_of(self, epoch: int):
        if not self.shuffle:
            return np.arange(len(self._plan)), self._members
        # Raw bits of Philox are the same in every version of numpy; numpy does not promise this for `permutation`.
        bits = np.random.Philox(key=[self.seed, epoch])
        shuffled = lambda a: a[np.argsort(bits.random_raw(len(a)), kind="stable")]
        members = [shuffled(m) for m in self._members]
        return shuffled(np.arange(len(self._plan))), members

    def _where(self, index: int) -> str:
        return f"record {index} of split {self.split!r}"

    def _example(self, index: int) -> dict[str, np.ndarray]:
        where = self._where(index)
        try:
            example = self.source.example(self.split, index)
            _checks.names(example, self.spec, where)
            example = {name: np.asarray(value) for name, value in example.items()}
            _checks.shapes(example, self.spec, where)
        except (DataError, MemoryError):
            raise
        except Exception as error:
            raise DataError(f"{where}: the source raised {type(error).__name__}: {error}") from error
        return example

    def _cut(self, example, index: int, epoch: int):
        longest = self.buckets[-1]
        axes = self.spec.bucketed if self.loader.buckets else ("L",)
        length_of = {axis: len(example[self.spec.axes[axis]]) for axis in axes}
        if (length := max(length_of.values())) <= longest:
            return example
        if self.loader.too_long == "error":
            raise self._overlong(index, length)
        if length_of.get("S", 0) > longest:
            example = cut(example, self.spec, 0, longest, axis="S")
        if example is None or (length := length_of["L"]) <= longest:
            return example
        start = 0
        if self.loader.too_long == "crop" and self.shuffle:
            bits = philox([self.seed, epoch], [index, 1, 0, 0])
            start = int(bits.random_raw() % (length - longest + 1))
        return cut(example, self.spec, start, longest)

    @functools.cached_property
    def first(self) -> dict[str, np.ndarray]:
        """Batch 0, whose shapes a run is built for. Raises as `iterate`."""
        return next(read([0], self.__getitem__, workers=0, prefetch=1, timeout=self.loader.timeout))

    @functools.cached_property
    def kinds(self) -> list[tuple[dict[str, np.ndarray], float]]:
        """Batch 0 at each padded length, shortest first, and the share of such batches. Raises as `iterate`."""
        if self.per_epoch is None or len(self.buckets) == 1:
            return [(self.first, 1.0)]
        buckets, counts = np.unique([bucket for bucket, _ in self._plan], return_counts=True)
        as_long = lambda a, length: a[:, np.arange(length) % a.shape[1]]
        axis_of = {key: column.axis for key, column in self.spec.columns.items() if column.axis in self.spec.bucketed}
        padded = lambda b: {key: as_long(self.first[key], self._padded(b)[axis]) for key, axis in axis_of.items()}
        some = lambda b: {key: a[np.arange(self.rows[b]) % len(a)] for key, a in {**self.first, **padded(b)}.items()}
        return [(some(b), n / self.per_epoch) for b, n in zip(buckets, counts, strict=True)]

    @property
    def tokens(self) -> float:
        """The number of positions in a batch, padding included, averaged over an epoch."""
        return self.mean(lambda batch: batch["mask"].size)

    def fill(self, batches: int = 32) -> float:
        """The share of places that hold a real token, of source and tokens, in the first batches of an epoch."""
        found = [self[step] for step in range(min(batches, self.per_epoch or batches))]
        masks = [batch[mask_name(axis)] for batch in found for axis in self.spec.bucketed]
        return sum(int(mask.sum()) for mask in masks) / sum(mask.size for mask in masks)

    def mean(self, of: Callable) -> float:
        """`of(batch)` averaged over an epoch; it may depend only on the shapes of a batch. Raises as `iterate`."""
        return sum(share * of(batch) for batch, share in self.kinds)

    def iterate(self, first: int, last: int, give_up: Callable = lambda: False, rows: np.ndarray | None = None):
        """Yields batches first ... last - 1, or only `rows` of them, read ahead.

        It ends early if `give_up()` is true while no batch is ready.

        Raises:
          DataError: a source raised, a worker died, or no batch came for `loader.timeout` seconds.
        """
        return self._read(range(first, last), functools.partial(self.part, rows=rows), give_up)

    def stacks(self, ranges: Sequence[range], give_up: Callable = lambda: False, rows: np.ndarray | None = None):
        """As `iterate`, but the batches of each range of steps are stacked: (steps, B, L)."""
        return self._read(ranges, functools.partial(self._stack, rows=rows), give_up)

    def _stack(self, steps: range, rows) -> dict[str, np.ndarray]:
        parts = [self.part(step, rows) for step in steps]
        return {key: np.stack([part[key] for part in parts]) for key in parts[0]}

    def _read(self, steps, part: Callable, give_up: Callable):
        loader = self.loader
        return read(steps, part, loader.num_workers, loader.prefetch, loader.timeout, give_up)
