"""The contract of a source of sequences. numpy only; nothing here knows of JAX."""

import dataclasses

import numpy as np

from seqjax.types import Checked, Spec


@dataclasses.dataclass
class Source(Checked):
    """Examples by index, split by split. `example` is pure: the same split and index give the same arrays.

    An example is a dict of unpadded arrays:

        tokens    int32 (L,)          ids in 0 ... spec.vocabulary - 1
        features  float32 (L, F)      instead of tokens
        label     int                 class in 0 ... spec.classes - 1, where there are classes
        scored    bool (L,)           optional: which tokens count when they are predicted; all, if absent
        reset     bool (L,)           optional: where a document begins; the first token needs no mark
        source    int32 (S,)          ids in 0 ... spec.source_vocabulary - 1, where tokens answer another sequence

    Any other split or index is a programming error, not a user's. Sources with labels also offer `classes`, their
    names in order.

    Options are the fields of the dataclass. `__post_init__` loads what it needs and sets `self.spec`.

    Raises (anywhere):
      DataError: with the absolute path and the line, offset or record.
    """

    notes = ()  # no field: sentences that a run and a dry run begin with, of what is odd about the data

    spec: Spec = dataclasses.field(init=False, repr=False)

    def size(self, split: str) -> int | None:
        """The number of examples; None, for train only: endless, any index goes."""
        raise NotImplementedError

    def example(self, split: str, index: int) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def stream(self, split: str) -> dict[str, np.ndarray] | None:
        """The whole of a split in reading order, as one long example; None: its examples are independent.

        It is what `task.carry_state` reads, in windows of `spec.length` tokens. Ids may be narrower than int32.
        """
        return None

    def lengths(self, split: str) -> np.ndarray:
        """The length of every example of a finite split, for padding to buckets.

        A source that knows them without reading overrides this: then what is too long is refused at the start.
        """
        first = lambda e: len(e["tokens"] if "tokens" in e else e["features"])
        return np.array([first(self.example(split, i)) for i in range(self.size(split))], np.int64)

    def baselines(self, split: str) -> dict[str, dict[str, float]]:
        """What a model must beat: metric -> name of the baseline -> value, computed on this split."""
        return {}

    def encode(self, text: str) -> np.ndarray:
        """Text -> int32 ids; only where tokens are text."""
        raise NotImplementedError(f"{type(self).__module__} has no text")

    def decode(self, ids: np.ndarray) -> str:
        """Ids -> text; only where tokens are text."""
        raise NotImplementedError(f"{type(self).__module__} has no text")

    def meaning(self) -> str | None:
        """What all ids stand for, in their order; None: it does not say."""
        return None
