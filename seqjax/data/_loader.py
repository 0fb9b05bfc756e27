"""The options of batches."""

import dataclasses
from typing import Literal

from seqjax.types import Checked, Count, Fraction, Positive, Processes


@dataclasses.dataclass(frozen=True)
class Loader(Checked):
    """How examples become batches.

    Sequences are padded on the right to the shortest bucket that holds them. All rows of a batch share a bucket, and
    the model is compiled once per bucket. The default is one bucket of `spec.length`. An example longer than the last
    bucket is an error, is cut at the end (`truncate`), or loses a random start and end (`crop`; in validation and test
    it is cut at the end). A `place` into a cut sequence moves with it; an example with a place in what was cut off is
    dropped: its row is empty, with weight 0. If examples have a `source`, a bucket pads and bounds it, too, and must
    hold the longer one of both; a source is cut at the end. Other axes are padded to `spec.lengths[axis]`, and never
    cut. Each axis has its mask: `mask` for L, `mask_S` for S.

    `places`: a batch has about so many places, so that short buckets have more rows: places // bucket, rounded down to
    a multiple of `batch_size`, and at least that. None: every batch has `batch_size` rows.

    Every epoch shows every example once in an order drawn from (seed, epoch); the last batch of a bucket is filled
    with empty rows of weight 0. An endless source has no epochs: each seed reads its own range of indices.

    `oversample`: an epoch of training shows every class equally often, as often as the largest one: it repeats the
    examples of the other classes, and two examples of a class differ by at most one repeat. Validation and test stay
    as they are.

    With `task.carry_state`, batches are windows of running text in reading order: see `seqjax.data.Streams`.
    `random_lengths`: the largest share by which a window of train is shorter than `data.length`, drawn anew for each
    batch, so that windows do not end at the same tokens in every epoch (as in Merity et al. 2017, arXiv:1708.02182).

    `num_workers`: number of processes that read, for slow sources; 0 reads in a thread. `prefetch`: batches that are
    read ahead. If no batch comes for `timeout` seconds, the run ends.
    """

    batch_size: Count = 64
    buckets: tuple[Count, ...] = ()
    places: Count | None = None
    too_long: Literal["error", "truncate", "crop"] = "error"
    oversample: bool = False
    random_lengths: Fraction = 0.0
    num_workers: Processes = 0
    prefetch: Count = 4
    timeout: Positive = 60.0

    def __post_init__(self):
        super().__post_init__()
        if list(self.buckets) != sorted(set(self.buckets)):
            raise ValueError(f"buckets={list(self.buckets)}: list each padded length once, the shortest first.")
        if self.places and not self.buckets:
            raise ValueError(f"places={self.places} without buckets: set loader.buckets, or only loader.batch_size.")

    def rows(self, length: int) -> int:
        """The number of rows of a batch that is padded to this length."""
        return max((self.places or 0) // length // self.batch_size, 1) * self.batch_size
