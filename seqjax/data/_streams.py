"""Batches in reading order, for a state that is carried from batch to batch."""

import dataclasses
import math

import numpy as np

from seqjax.data import _checks
from seqjax.data._batches import Batches
from seqjax.data._loader import Loader
from seqjax.data._random import philox
from seqjax.data._source import Source
from seqjax.spec import Field, Spec
from seqjax.types import ConfigError, DataError


class Streams(Batches):
    """The batches of one split in reading order: each row continues where it ended in the batch before.

        t h i s i s i t     cut into [t h i s] [s i s i] [i t]: 3 predictions each, neighbours share one token

                   row 0       row 1       2 rows
        batch 0    [t h i s]   [i t]
        batch 1    [s i s i]   empty       batch 2 is batch 0 again

    Each row reads a contiguous part of the windows; parts differ by at most one window. Every token except the very
    first is predicted once per epoch. A row without a window left is empty, with weight 0. Nothing is shuffled. `reset`
    is True where a document begins, and at the first token of every row in an epoch.

    Every epoch is the same, unless `shuffle`: then windows are up to `loader.random_lengths` shorter, and end at other
    places in each epoch. All rows of a batch end together. Each end is a function of (seed, epoch, its number), and all
    windows are padded to one length: a resumed run needs no generator, and no window another program.

    Raises:
      ConfigError: the source has no stream, or a field that windows cannot cut; the loader has buckets, or oversamples.
      DataError: train has fewer windows than rows; the stream has other fields than the spec.
    """

    def __init__(self, source: Source, split: str, loader: Loader, *, seed: int = 0, shuffle: bool = False):
        super().__init__(source, split, loader, seed=seed)
        if split == "train" and self.size < loader.batch_size:
            raise DataError(
                f"split 'train' has {self.size} windows of {self.length} predictions, a batch takes "
                f"{loader.batch_size}: lower loader.batch_size or data.length, or give more data."
            )
        n, extra = divmod(self.size, loader.batch_size)
        row_B, last = np.arange(loader.batch_size), len(self.stream["tokens"]) - 1  # it is predicted and never read
        self._begin_B = np.minimum((row_B * n + np.minimum(row_B, extra)) * self.length, last)
        self._end_B = np.append(self._begin_B[1:], last)
        longest = int(self._end_B[0] - self._begin_B[0])  # no later row is longer
        shorter = loader.random_lengths / 2 if shuffle else 0.0  # on average
        self.per_epoch = math.ceil(longest / (self.length * (1 - shorter)))
        self._mean = longest / self.per_epoch if shorter else self.length
        self._jitter = self._mean * shorter / (1 - shorter) / 2  # of each end: of a window, both move
        if self._mean - 2 * self._jitter < 1:
            raise ConfigError(
                f"loader.random_lengths={loader.random_lengths} leaves windows without a prediction, data.length="
                f"{self.length} is too short: lower loader.random_lengths, or raise data.length."
            )

    def _spec(self) -> Spec:
        spec = self.source.spec
        return dataclasses.replace(spec, fields=spec.fields | {"reset": Field("bool")})

    def _count(self) -> int:
        self.stream, self.length = self.source.stream(self.split), self.source.spec.length - 1
        if self.stream is None:
            raise ConfigError(
                "task.carry_state needs running text, but the examples of this source are independent of each other: "
                "choose a source such as data.name='text', or leave task.carry_state out."
            )
        if self.loader.oversample:
            raise ConfigError("task.carry_state reads running text in its order: remove loader.oversample.")
        if self.loader.buckets:
            raise ConfigError(
                f"task.carry_state reads windows of data.length, got loader.buckets={list(self.loader.buckets)}: "
                "leave them out."
            )
        for name, field in self.spec.fields.items():
            if field.axis != "L" or field.into is not None:
                raise ConfigError(
                    f"task.carry_state cuts running text into windows, but the field {name!r} is not a sequence of "
                    "values along it: leave out the field, or task.carry_state."
                )
        _checks.names(self.stream, self.source.spec, f"the stream of split {self.split!r}")
        return -(-(len(self.stream["tokens"]) - 1) // self.length)

    @property
    def longest(self) -> int:
        """The most tokens that a row reads between two resets."""
        begins = [self._begin_B, np.flatnonzero(self.stream.get("reset", ())), self._end_B[-1:]]
        return int(np.diff(np.unique(np.minimum(np.concatenate(begins), self._end_B[-1]))).max())

    def part(self, step: int, rows: np.ndarray | None) -> dict[str, np.ndarray]:
        """Batch number `step`, counted over all epochs, with `reset` (B, L); or some rows of it."""
        batch = super().part(step, rows)
        batch["reset"][:, 0] |= step % self.per_epoch == 0
        return batch

    def _rows(self, step: int):
        full = int(np.count_nonzero(self._begin_B + self._window(step)[0] < self._end_B))  # the first rows are longest
        return 0, step * self.loader.batch_size + np.arange(full), step // self.per_epoch

    def _window(self, step: int) -> tuple[int, int]:
        """Where the windows of a batch begin and end, counted from the first token of their rows."""
        epoch, k = divmod(step, self.per_epoch)
        return self._edge(epoch, k), self._edge(epoch, k + 1)

    def _edge(self, epoch: int, k: int) -> int:
        if not self._jitter or k in (0, self.per_epoch):
            return round(k * self._mean)
        bits = philox([self.seed, epoch], [k, 2, 0, 0]).random_raw()
        return math.floor(k * self._mean + self._jitter * (int(bits) / 2**63 - 1))

    def _place(self, index: int) -> tuple[int, int]:
        """Where the window of a row begins and ends in the stream; it reads the token at its end, too."""
        step, row = divmod(index, self.loader.batch_size)
        begin, end = (min(self._begin_B[row] + edge, self._end_B[row]) for edge in self._window(step))
        return int(begin), int(end)

    def _where(self, index: int) -> str:
        return f"window {self._place(index)[0] // self.length} of split {self.split!r}"

    def _example(self, index: int) -> dict[str, np.ndarray]:
        begin, end = self._place(index)
        example = {key: array[begin : end + 1] for key, array in self.stream.items()}
        example.setdefault("reset", np.zeros(len(example["tokens"]), bool))
        _checks.shapes(example, self.spec, self._where(index))
        return example
