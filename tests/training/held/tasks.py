"""A task whose metrics are of every kind, and one with two terms."""

import jax.numpy as jnp
from flax import linen as nn

from seqjax.metrics import F1, Histogram, Ratio
from seqjax.ops import losses
from seqjax.tasks.next_token import NextToken


class Counted(NextToken):
    """Next token, with the F1 of each token and the area under the curve of the probability of token 0."""

    @property
    def metrics(self):
        return {**super().metrics, "f1": "more", "auc": "more"}

    def loss(self, prediction, batch):
        target_BL, C = batch["tokens"][:, 1:], self.spec.vocabulary
        weight_BL = batch["mask"][:, 1:] * batch["weight"][:, None]
        predicted_BLC, actual_BLC = (nn.one_hot(a, C, dtype=bool) for a in (jnp.argmax(prediction, -1), target_BL))
        f1 = F1.of(predicted_BLC, actual_BLC, jnp.repeat(weight_BL[..., None], C, axis=2), axis=(0, 1))
        auc = Histogram.of(nn.softmax(prediction)[..., 0], target_BL == 0, weight_BL, bins=10)
        return {**super().loss(prediction, batch), "f1": f1, "auc": auc}


class Both(NextToken):
    """Two terms with other weights: each token counts in one, and each row in the other."""

    terms = {"loss": 1.0, "row_loss": 0.3}

    @property
    def metrics(self):
        return {**super().metrics, "row_loss": "less"}

    def loss(self, prediction, batch):
        weight_BL = batch["mask"][:, 1:].astype(jnp.float32)
        mean_BV = jnp.einsum("BLV,BL->BV", prediction, weight_BL) / jnp.maximum(weight_BL.sum(1), 1)[:, None]
        row_B = losses.cross_entropy(mean_BV, batch["tokens"][:, 0])
        return {**super().loss(prediction, batch), "row_loss": Ratio.of(row_B, batch["weight"])}

    def weights(self, batch):
        weight_BL = batch["mask"][:, 1:] * batch["weight"][:, None]
        if "reset" in batch:
            weight_BL = weight_BL * ~batch["reset"][:, 1:]
        return {"loss": jnp.sum(weight_BL), "row_loss": jnp.sum(batch["weight"])}
