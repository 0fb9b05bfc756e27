"""Tasks whose loss can be made to jump."""

from seqjax.metrics import Ratio
from seqjax.tasks.classification import Classification


class Loud(Classification):
    """Classification in which an example counts as often as its field `loud` says."""

    def loss(self, prediction, batch):
        metrics = super().loss(prediction, batch)
        times = batch["loud"].max()
        return {**metrics, "loss": Ratio(metrics["loss"].total * times, metrics["loss"].weight)}
