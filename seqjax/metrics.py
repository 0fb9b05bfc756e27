"""A metric is a sum and a weight; it is divided only when it is reported."""

import math
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp

# Words in the names of metrics that grow or shrink as a model gets better. A name with both kinds of words shrinks.
GROWING = ("accuracy", "auc", "bleu", "correlation", "f1", "match", "precision", "r2", "recall", "reward", "score")
SHRINKING = ("bits", "distance", "error", "loss", "mae", "mse", "negative", "nll", "perplexity", "rmse", "wer")


def grows(name: str) -> bool | None:
    """Whether a metric grows as a model gets better, by the words of its name; None if they do not say.

    `roc_auc`, `recall_at_5` and `my_score` do, `my_loss` and `bits_per_byte` do not.
    """
    words = set(re.split("[^a-z0-9]+", name.lower()))
    if not words.isdisjoint(SHRINKING):
        return False
    return None if words.isdisjoint(GROWING) else True


class Ratio(NamedTuple):
    """A weighted mean that adds up exactly: `Ratio(6, 2) + Ratio(1, 8)` is 7 / 10.

    Both are float32 scalars (or numpy float64 on the host). A weight of zero means that nothing was counted.
    """

    total: jax.Array
    weight: jax.Array

    @classmethod
    def of(cls, value, weight) -> "Ratio":
        """Sums `value * weight` over all axes. A value with weight 0 has no effect, even if it is NaN."""
        weight = jnp.asarray(weight, jnp.float32)
        kept = jnp.where(weight > 0, jnp.asarray(value, jnp.float32), 0.0)
        return cls(jnp.sum(kept * weight), jnp.sum(weight))

    def __add__(self, other) -> "Ratio":
        return Ratio(self.total + other.total, self.weight + other.weight)

    def mean(self) -> float:
        """The quotient on the host; NaN if nothing was counted."""
        weight = float(self.weight)
        return float(self.total) / weight if weight else math.nan


def is_better(name: str, new: float, old: float | None) -> bool:
    """Whether `new` is better than `old`. Every finite value is better than None.

    The answer is False if `new` is not finite, or if the name does not say whether the metric grows or shrinks.
    """
    growing = grows(name)
    if not math.isfinite(new) or growing is None:
        return False
    return old is None or (new > old if growing else new < old)
