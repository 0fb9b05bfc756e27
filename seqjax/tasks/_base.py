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

    The loader makes a batch of examples: `tokens` (B, L) or `features` (B, L, F) padded on the right, `mask` (B, L)
    True = real, `weight` (B,) 0 for the empty rows of the last batch, and the other fields that the source gives
    (`label`, `scored`, `reset`; `source` (B, S) and its `source_mask`).

    `monitor` is the validation metric for the choice of the best checkpoint and for early stopping. Its name says which
    direction is better: a metric of your own ends in `_score` if higher is better, in `_loss` if lower is better, or
    has another word for it, such as `auc` or `error` (`seqjax.metrics.grows`).
    """

    spec: Annotated[Spec, Injected]
    monitor: str = "loss"

    prompt_length = (
        math.inf
    )  # the first tokens of a document that are not predicted; a task that predicts tokens sets it
    carry_state = False  # not a field: only tasks whose batches can continue the batch before have this option

    def __post_init__(self):
        super().__post_init__()
        if grows(self.monitor) is None:
            near = lookup.nearest(self.monitor, ("accuracy", "exact_match", "loss"))
            raise ValueError(
                f"monitor={self.monitor!r} is no known metric, and its name does not say whether higher is better."
                f"{near} End the name of your own metric in _score if higher is better, in _loss if lower is better."
            )

    def outputs(self) -> int:
        """The size of the model's head."""
        raise NotImplementedError

    def inputs(self, batch) -> tuple:
        """What the model reads: (x_BL or x_BLF, mask_BL)."""
        raise NotImplementedError

    def resets(self, batch):
        """reset_BL, True where a document begins in the input of the model; or None."""
        return None

    def context(self, batch) -> dict:
        """Further inputs of the model, as keyword arguments."""
        return {}

    def loss(self, prediction, batch) -> dict:
        """Name -> Ratio; training minimises "loss"."""
        raise NotImplementedError
