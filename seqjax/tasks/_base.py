"""The contract of a task."""

import dataclasses
import math
from typing import Annotated

from seqjax import lookup
from seqjax.metrics import grows
from seqjax.types import Checked, Injected, Spec


@dataclasses.dataclass(frozen=True)
class Task(Checked):
    """Turns a batch into what a model reads, and its prediction into a loss.

    A batch is what the loader makes of examples: `tokens` (B, L) or `features` (B, L, F) padded on the right,
    `mask` (B, L) True = real, `weight` (B,) 0 for the rows that fill up the last batch, and whatever else the
    source gives (`label`, `scored`, `reset`; `source` (B, S) and its `source_mask`).

    `monitor` is the validation metric that chooses the best checkpoint and stops early. Its name says which way is
    better: a metric of your own ends in `_score` where more is, in `_loss` where less is, or has another word for it,
    such as `auc` or `error` (`seqjax.metrics.grows`).
    """

    spec: Annotated[Spec, Injected]
    monitor: str = "loss"

    given = math.inf  # how many first tokens of a document are not predicted: all, unless a task predicts tokens
    carry_state = False  # no field: only a task whose batches can go on where the one before ended has the choice

    def __post_init__(self):
        super().__post_init__()
        if grows(self.monitor) is None:
            near = lookup.nearest(self.monitor, ("accuracy", "exact_match", "loss"))
            raise ValueError(
                f"monitor={self.monitor!r} is no known metric, and its name does not say whether more of it is "
                f"better.{near} End a metric of your own in _score if so, in _loss if not."
            )

    def outputs(self) -> int:
        """The size of the model's head."""
        raise NotImplementedError

    def inputs(self, batch) -> tuple:
        """What the model reads: (x_BL or x_BLF, mask_BL)."""
        raise NotImplementedError

    def resets(self, batch):
        """Where documents begin in what the model reads: reset_BL, or None."""
        return None

    def context(self, batch) -> dict:
        """What else the model reads, as keyword arguments."""
        return {}

    def loss(self, prediction, batch) -> dict:
        """Name -> Ratio; "loss" is the one that is trained on."""
        raise NotImplementedError
