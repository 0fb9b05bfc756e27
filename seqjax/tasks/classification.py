"""Predict the class of a whole sequence."""

import dataclasses
from collections.abc import Callable
from typing import Annotated

import jax.numpy as jnp

from seqjax.heads.pooled import Pooled
from seqjax.metrics import Ratio
from seqjax.ops import losses
from seqjax.tasks._base import Task as _Task
from seqjax.types import Part


@dataclasses.dataclass(frozen=True)
class Classification(_Task):
    """Classification: cross-entropy of one label per sequence.

        loss = - mean_b log p(label_b | x_b)      in nats

    Also reported: `accuracy`.
    """

    monitor: str = "accuracy"
    head: Annotated[Callable, Part("seqjax.heads", "Head")] = Pooled

    metrics = {"loss": "less", "accuracy": "more"}

    def __post_init__(self):
        super().__post_init__()
        if self.spec.classes is None:
            raise ValueError("classification needs labels, this source has none: choose other data, or another task.")

    def outputs(self) -> int:
        return self.spec.classes

    def known(self, batch):
        return {"label_B": batch["label"]}

    def loss(self, prediction, batch):
        label_B, weight_B = batch["label"], batch["weight"]
        right_B = jnp.argmax(prediction, axis=-1) == label_B
        return {
            "loss": Ratio.of(losses.cross_entropy(prediction, label_B), weight_B),
            "accuracy": Ratio.of(right_B, weight_B),
        }


Task = Classification
