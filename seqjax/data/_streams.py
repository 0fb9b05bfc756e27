"""Batches in reading order, for a state that is carried from batch to batch."""

import dataclasses

import numpy as np

from seqjax.data import _checks
from seqjax.data._loader import Batches, Loader
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
    first is predicted once per epoch. A row without a window left is empty, with weight 0. Every epoch is the same:
    nothing is shuffled. `reset` is True where a document begins, and at the first token of every row in an epoch.

    Raises:
      ConfigError: the source has no stream, or a field that windows cannot cut; the loader has buckets, or oversamples.
      DataError: train has fewer windows than rows; the stream has other fields than the spec.
    """

    def __init__(self, source: Source, split: str, loader: Loader):
        super().__init__(source, split, loader)
        if split == "train" and self.size < loader.batch_size:
            raise DataError(
                f"split 'train' has {self.size} windows of {self.length} predictions, a batch takes "
                f"{loader.batch_size}: lower loader.batch_size or data.length, or give more data."
            )
        n, extra = divmod(self.size, loader.batch_size)
        row_B = np.arange(loader.batch_size)
        self._first_B = row_B * n + np.minimum(row_B, extra)  # the first window of each row

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
        last = len(self.stream["tokens"]) - 1  # it is predicted and never read
        begins = [self._first_B * self.length, np.flatnonzero(self.stream.get("reset", ())), [last]]
        return int(np.diff(np.unique(np.minimum(np.concatenate(begins), last))).max())

    def part(self, step: int, rows: np.ndarray | None) -> dict[str, np.ndarray]:
        """Batch number `step`, counted over all epochs, with `reset` (B, L); or some rows of it."""
        batch = super().part(step, rows)
        batch["reset"][:, 0] |= step % self.per_epoch == 0
        return batch

    def _rows(self, step: int):
        epoch, k = divmod(step, self.per_epoch)
        full = min(self.loader.batch_size, self.size - k * self.loader.batch_size)  # rows with one more come first
        return 0, self._first_B[:full] + k, epoch

    def _where(self, index: int) -> str:
        return f"window {index} of split {self.split!r}"

    def _example(self, index: int) -> dict[str, np.ndarray]:
        begin = index * self.length
        example = {key: array[begin : begin + self.length + 1] for key, array in self.stream.items()}
        example.setdefault("reset", np.zeros(len(example["tokens"]), bool))
        _checks.shapes(example, self.spec, self._where(index))
        return example
