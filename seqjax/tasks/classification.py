"""Predict the class of a whole sequence."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.heads.pooled import Pooled
from seqjax.metrics import F1, Ratio
from seqjax.ops import losses
from seqjax.tasks._base import Task as _Task
from seqjax.types import Fraction, NonNegative, Part

BETA = 0.999  # of the effective number of examples: at most 1 / (1 - BETA) count


@dataclasses.dataclass(frozen=True)
class Classification(_Task):
    """Classification: cross-entropy of one label per sequence.

        loss = - mean_b log p(y_b | x_b)      in nats, y_b = label_b

    Also reported: `accuracy`, and `macro_f1`, the mean over classes of F1. If examples have a `source`, p is also given
    the source.

    With any of the options below, training minimises `training_loss` instead. The loss stays what it is, and compares
    runs with other options:

        training_loss = sum_b w_{y_b} l_b / sum_b w_{y_b},   l_b = (1 - p_b)^gamma sum_c q_bc (-log p_bc)
        q_b = (1 - smoothing) onehot(y_b) + smoothing / C,   p_b = softmax(logits_b + tau log prior)[y_b]

    `class_weights`: w, a list with a number per class, or "balanced" (examples / (C examples_c)), or
      "effective_number", (1 - beta) / (1 - beta^examples_c) with beta = 0.999, scaled to the mean 1. Examples are those
      of train.
    `label_smoothing`: smoothing. `focal_gamma`: gamma, above 0 in the focal loss.
    `logit_adjustment`: tau, above 0 for rare classes to count as much as frequent ones; the prior is that of train.

    Cui et al. 2019, arXiv:1901.05555 (effective number); Menon et al. 2020, arXiv:2007.07314 (logit adjustment).

    Raises:
      ValueError: the source has no labels, or does not count them where an option needs that; the class weights are not
        as many as the classes.
    """

    monitor: str = "accuracy"
    head: Annotated[Callable, Part("seqjax.heads", "Head")] = Pooled
    class_weights: Literal["balanced", "effective_number"] | tuple[NonNegative, ...] | None = None
    label_smoothing: Fraction = 0.0
    focal_gamma: NonNegative = 0.0
    logit_adjustment: NonNegative = 0.0

    metrics = {"loss": "less", "accuracy": "more", "macro_f1": "more"}

    def __post_init__(self):
        if not self._plain:
            minimised = {"training_loss" if name == "loss" else name: scale for name, scale in self.terms.items()}
            object.__setattr__(self, "terms", minimised)
            object.__setattr__(self, "metrics", {**self.metrics, "training_loss": "less"})
        super().__post_init__()
        if self.spec.classes is None:
            raise ValueError("classification needs labels, this source has none: choose other data, or another task.")
        if isinstance(self.class_weights, str) or self.logit_adjustment:
            if self.spec.counts is None:
                raise ValueError(
                    f"class_weights={self.class_weights!r} and logit_adjustment={self.logit_adjustment} need the "
                    "number of examples of each class, which this source does not say: give class_weights as a list, "
                    "or choose other data."
                )
        elif self.class_weights is not None and len(self.class_weights) != self.spec.classes:
            raise ValueError(
                f"class_weights has {len(self.class_weights)} numbers, the data have {self.spec.classes} classes: give "
                "one per class, in their order."
            )

    @property
    def _plain(self) -> bool:
        return self.class_weights is None and not (self.label_smoothing or self.focal_gamma or self.logit_adjustment)

    def outputs(self) -> int:
        return self.spec.classes

    def known(self, batch):
        return {"label_B": batch["label"]}

    def weights_of_classes(self) -> np.ndarray:
        """w: (C,), float32."""
        if self.class_weights is None:
            return np.ones(self.spec.classes, np.float32)
        if not isinstance(self.class_weights, str):
            return np.array(self.class_weights, np.float32)
        examples_C = np.maximum(np.array(self.spec.counts, np.float64), 1)  # a fold may lack a class
        if self.class_weights == "balanced":
            return (np.sum(examples_C) / (len(examples_C) * examples_C)).astype(np.float32)
        weight_C = (1 - BETA) / (1 - BETA**examples_C)
        return (weight_C / np.mean(weight_C)).astype(np.float32)

    def loss(self, prediction, batch):
        label_B, weight_B = batch["label"], batch["weight"]
        classes_C = jnp.arange(self.spec.classes)[None]
        predicted_B = jnp.argmax(prediction, axis=-1)
        one_hot = lambda label_B: label_B[:, None] == classes_C
        metrics = {
            "loss": Ratio.of(losses.cross_entropy(prediction, label_B), weight_B),
            "accuracy": Ratio.of(predicted_B == label_B, weight_B),
            "macro_f1": F1.of(one_hot(predicted_B), one_hot(label_B), weight_B[:, None], axis=0),
        }
        if not self._plain:
            metrics["training_loss"] = self._training_loss(prediction, label_B, weight_B)
        return metrics

    def _training_loss(self, prediction, label_B, weight_B) -> Ratio:
        if self.logit_adjustment:
            examples_C = jnp.maximum(jnp.array(self.spec.counts, jnp.float32), 1)
            prediction = prediction + self.logit_adjustment * jax.nn.log_softmax(jnp.log(examples_C))[None]
        how = dict(label_smoothing=self.label_smoothing, focal_gamma=self.focal_gamma)
        weight_B = weight_B * jnp.asarray(self.weights_of_classes())[label_B]
        return Ratio.of(losses.classification(prediction, label_B, **how), weight_B)


Task = Classification
