"""Predict the next steps of a series."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Annotated

import jax.numpy as jnp

from seqjax import masks
from seqjax.heads.pooled import Pooled
from seqjax.metrics import Ratio
from seqjax.ops import pooling
from seqjax.tasks import _base
from seqjax.types import Part

Last = functools.partial(Pooled, pool="last")


@dataclasses.dataclass(frozen=True)
class Forecast(_base.Task):
    """Forecasting: the mean squared error of all steps of the horizon, predicted at once.

        loss = mean over steps h and columns f of (prediction_hf - future_hf)^2      in squared units of the data

    The source gives `features` (L, F) and `future` (H, F). With `relative`, the model reads each value minus the last
    one of its column and predicts the difference to it, so that a change of level costs no capacity (Zeng et al. 2023,
    arXiv:2205.13504, call it NLinear). Also reported: `mae`, the mean absolute error.
    """

    head: Annotated[Callable, Part("seqjax.heads", "Head")] = Last
    relative: bool = True

    metrics = {"loss": "less", "mae": "less"}

    def __post_init__(self):
        super().__post_init__()
        if missing := {"features", "future"} - self.spec.fields.keys():
            raise ValueError(f"forecast needs features and future, this source has no {missing.pop()}: choose another.")

    def outputs(self):
        H, F = self.spec.fields["future"].shape
        return H * F

    def reads(self, batch):
        reads = super().reads(batch)
        if not self.relative:
            return reads
        return reads._replace(x=masks.fill(reads.x - _last(batch), reads.mask_BL))

    def loss(self, prediction, batch):
        future_BHF = batch["future"]
        if self.relative:
            future_BHF = future_BHF - _last(batch)
        error_BHF = prediction.reshape(future_BHF.shape) - future_BHF
        weight_BHF = jnp.broadcast_to(batch["weight"][:, None, None], error_BHF.shape)
        return {"loss": Ratio.of(error_BHF**2, weight_BHF), "mae": Ratio.of(jnp.abs(error_BHF), weight_BHF)}


def _last(batch):
    """The last real step of each row: (B, 1, F)."""
    return pooling.last(batch["features"], batch["mask"])[:, None]


Task = Forecast
