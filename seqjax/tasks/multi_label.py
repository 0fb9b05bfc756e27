"""Predict which labels a whole sequence has."""

import dataclasses
from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
import optax

from seqjax.heads.pooled import Pooled
from seqjax.metrics import Ratio, f1_of_labels
from seqjax.tasks import _base
from seqjax.types import Part, Range


@dataclasses.dataclass(frozen=True)
class MultiLabel(_base.Task):
    """Multi-label: any number of labels per sequence, each of them a yes or no of its own.

        loss = - mean_bc [y_bc log p_bc + (1 - y_bc) log(1 - p_bc)],   p = sigmoid(logits)      in nats

    The source gives `labels` (bool, one flag per label). Also reported: F1 of the labels with p >= `threshold`, of all
    decisions (`micro_f1`), the mean over labels (`macro_f1`) and the mean over sequences (`sample_f1`). The evaluator
    `multi_label` chooses a threshold per label on validation.

    Raises:
      ValueError: the source has no sets of labels.
    """

    head: Annotated[Callable, Part("seqjax.heads", "Head")] = Pooled
    threshold: Annotated[float, Range(above=0, below=1)] = 0.5

    metrics = {"loss": "less", "micro_f1": "more", "macro_f1": "more", "sample_f1": "more"}

    def __post_init__(self):
        super().__post_init__()
        if "labels" not in self.spec.fields:
            raise ValueError(
                f"multi_label needs the field labels, this source has {', '.join(self.spec.fields)}: choose other "
                "data, or task.name='classification' for one label per sequence."
            )

    def outputs(self):
        return self.spec.fields["labels"].shape[0]

    def loss(self, prediction, batch):
        labels_BC, weight_B = batch["labels"], batch["weight"]
        loss_B = jnp.mean(optax.sigmoid_binary_cross_entropy(prediction, labels_BC.astype(jnp.float32)), axis=1)
        chosen_BC = jax.nn.sigmoid(prediction) >= self.threshold
        return {"loss": Ratio.of(loss_B, weight_B), **f1_of_labels(chosen_BC, labels_BC, weight_B)}


Task = MultiLabel
