"""The contract of a task."""

import dataclasses
import math
from typing import Annotated, NamedTuple

import jax

from seqjax import lookup
from seqjax.metrics import Way
from seqjax.spec import Spec
from seqjax.types import Checked, ConfigError, Injected, mismatch


class Reads(NamedTuple):
    """What a model reads of a batch: `model.apply(variables, reads.x, state, **reads.keywords)`."""

    x: jax.Array  # tokens (B, L) or features (B, L, F)
    mask_BL: jax.Array  # True = real
    reset_BL: jax.Array | None = None  # True where a document begins
    side: dict[str, jax.Array] = {}  # further inputs, by the name of the model's argument

    @property
    def keywords(self) -> dict:
        """The keyword arguments of the model."""
        return {"mask_BL": self.mask_BL, "reset_BL": self.reset_BL, **self.side}


@dataclasses.dataclass(frozen=True)
class Task(Checked):
    """Turns a batch into what a model reads, and its prediction into a loss.

    The loader makes a batch of examples: `tokens` (B, L) or `features` (B, L, F) padded on the right, `mask` (B, L)
    True = real, `weight` (B,) 0 for the empty rows of the last batch, and the other fields that the source gives
    (`label`, `scored`, `reset`; `source` (B, S) and its `source_mask`).

    `metrics` declares every metric that `loss` returns, and whether "more" or "less" of it is better. It may be a
    property. `monitor` is the one whose validation value chooses the best checkpoint and decides on early stopping.
    """

    spec: Annotated[Spec, Injected]
    monitor: str = "loss"

    metrics = {"loss": "less"}  # not a field; nor are those below
    prompt_length = (
        math.inf
    )  # the first tokens of a document that are not predicted; a task that predicts tokens sets it
    carry_state = False  # not a field: only tasks whose batches can continue the batch before have this option

    def __post_init__(self):
        super().__post_init__()
        if problem := mismatch(dict[str, Way], self.metrics):
            raise ValueError(f"metrics of {type(self).__name__}: {problem}.")
        if self.monitor not in self.metrics:
            near = lookup.nearest(self.monitor, self.metrics)
            raise ValueError(f"monitor={self.monitor!r} is not a metric.{near} It has {', '.join(self.metrics)}.")

    def outputs(self) -> int:
        """The size of the model's head."""
        raise NotImplementedError

    def reads(self, batch) -> Reads:
        """What the model reads: all tokens or features, unless a task overrides it. It may use any field."""
        return Reads(batch["tokens" if self.spec.vocabulary is not None else "features"], batch["mask"])

    def length(self, L: int) -> int:
        """How many tokens the model reads of an example of length L: the length of `reads(batch).x`."""
        return L

    def loss(self, prediction, batch) -> dict:
        """Name -> metric (see `seqjax.metrics`), all that `metrics` declares; training minimises the Ratio "loss"."""
        raise NotImplementedError

    def check(self, metrics) -> None:
        """Raises ConfigError unless these are the metrics that the task declares."""
        if metrics.keys() != self.metrics.keys():
            raise ConfigError(
                f"task: {type(self).__name__}.loss returned the metrics {', '.join(sorted(metrics))}, but `metrics` "
                f"declares {', '.join(sorted(self.metrics))}: declare all that are returned, as 'more' or 'less'."
            )
