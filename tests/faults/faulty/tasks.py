"""Tasks whose loss can be made to jump."""

import jax.numpy as jnp

from seqjax.metrics import Ratio
from seqjax.tasks.classification import Classification
from seqjax.tasks.next_token import NextToken


class Loud(Classification):
    """Classification in which an example counts as often as its field `loud` says."""

    def loss(self, prediction, batch):
        metrics = super().loss(prediction, batch)
        times = batch["loud"].max()
        return {**metrics, "loss": Ratio(metrics["loss"].total * times, metrics["loss"].weight)}


class Poisoned(NextToken):
    """A loss that is no number where token 3 is seen."""

    def loss(self, prediction, batch):
        found = super().loss(prediction, batch)
        bad = jnp.any(batch["tokens"] == 3)
        return {**found, "loss": Ratio(jnp.where(bad, jnp.nan, found["loss"].total), found["loss"].weight)}
