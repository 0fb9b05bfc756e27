"""The contract of a source of sequences. This file uses only numpy, never JAX."""

import dataclasses
from typing import NamedTuple

import numpy as np

from seqjax.spec import Spec
from seqjax.types import Checked


class Baseline(NamedTuple):
    """A simple model: its name, the value of each metric, its size, and the seconds that training took."""

    name: str
    metrics: dict[str, float]
    parameters: int
    seconds: float


@dataclasses.dataclass
class Source(Checked):
    """Gives examples by split and index. `example` is pure: the same split and index give the same arrays.

    An example is a dict of unpadded arrays: exactly the fields of `self.spec`, each of shape ([length], *field.shape).
    Fields along the same axis have the same length. These names have a meaning for the tasks and models here:

        tokens    ids (L,)            or
        features  real (L, F)         the sequence that the model reads
        label     ids ()              the class of the sequence
        labels    bool (C,)           which labels the sequence has, any number of them
        scored    bool (L,)           which predicted tokens count; if absent, all count
        reset     bool (L,)           where a document begins; the first token needs no mark
        span      real (L,)           how many characters of the text each token adds to those before it
        source    ids (S,)            a second sequence, which the first one answers

    Any other split or index is an error of the calling code, not of the user. Sources with `label` or
    `labels` also have `classes`, the names of the classes in order.

    The options are the fields of the dataclass. `__post_init__` loads the data and sets `self.spec`.

    Raises (anywhere):
      DataError: with the absolute path and the line, offset or record.
    """

    notes = ()  # not a field: sentences about oddities of the data; a run and a dry run print them first

    spec: Spec = dataclasses.field(init=False, repr=False)

    def size(self, split: str) -> int | None:
        """The number of examples. None, only allowed for train, means endless: every index from 0 on is valid."""
        raise NotImplementedError

    def example(self, split: str, index: int) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def stream(self, split: str) -> dict[str, np.ndarray] | None:
        """The whole split in reading order, as one long example; None if its examples are independent.

        `task.carry_state` reads this stream in windows of `spec.length` tokens. Ids may be narrower than int32.
        """
        return None

    def lengths(self, split: str) -> np.ndarray:
        """The length of every example of a finite split, for padding to buckets: with a source, that of the longer one.

        A source that knows the lengths without reading overrides this: then too long examples fail at the start.
        """
        return np.array([self.spec.measured(self.example(split, i)) for i in range(self.size(split))], np.int64)

    def baselines(self, split: str) -> dict[str, dict[str, float]]:
        """The values that a model must beat: metric -> name of the baseline -> value, computed on this split."""
        return {}

    def slow_baselines(self, split: str) -> list[Baseline]:
        """Further baselines, which take seconds or minutes: `seqjax evaluate` asks for them, once per run and split.

        Raises:
          ConfigError: they need a package that is not installed.
        """
        return []

    def encode(self, text: str, field: str = "tokens") -> np.ndarray:
        """Text -> int32 ids of a field; only if they are text."""
        raise NotImplementedError(f"{type(self).__module__} has no text")

    def decode(self, ids: np.ndarray, field: str = "tokens") -> str:
        """Ids of a field -> text; only if they are text."""
        raise NotImplementedError(f"{type(self).__module__} has no text")

    def meaning(self) -> str | None:
        """The text of all ids, in the order of the ids; None if the source does not say."""
        return None
