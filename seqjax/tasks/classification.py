"""Predict the class of a whole sequence."""

import dataclasses

import jax.numpy as jnp

from seqjax.metrics import Ratio
from seqjax.ops import losses
from seqjax.tasks._base import Task as _Task


@dataclasses.dataclass(frozen=True)
class Classification(_Task):
    """Classification: cross-entropy of one label per sequence.

        loss = - mean_b log p(label_b | x_b)      in nats

    Also reported: `accuracy`.
    """

    monitor: str = "accuracy"
    metrics = {"loss": "less", "accuracy": "more"}

    def __post_init__(self):
        super().__post_init__()
        if self.spec.classes is None:
            raise ValueError("classification needs labels, this source has none: choose task.name='next_token'.")

    def outputs(self) -> int:
        return self.spec.classes

    def loss(self, prediction, batch):
        label_B, weight_B = batch["label"], batch["weight"]
        right_B = jnp.argmax(prediction, axis=-1) == label_B
        return {
            "loss": Ratio.of(losses.cross_entropy(prediction, label_B), weight_B),
            "accuracy": Ratio.of(right_B, weight_B),
        }


Task = Classification
