"""Predict a tag for every token."""

import dataclasses

import jax
import jax.numpy as jnp

from seqjax.metrics import Ratio
from seqjax.ops import losses
from seqjax.tasks import _base


@dataclasses.dataclass(frozen=True)
class Tag(_base.Task):
    """Tagging: cross-entropy of the tag of each token, given the whole sequence.

        loss = - mean_t log p(tag_t | x_1 ... x_L)      in nats, over all real tokens

    The source gives `tags` (ids, one per token). The model reads `tokens` or `features`, and `characters` if there are
    any. Learners that count are told the tags, or, if the source gives `allowed` (bool, one flag per tag), which tags a
    token may have: one, some, or all. Also reported: `accuracy`, and, if the source marks `unknown` tokens,
    `unknown_accuracy`, that of these tokens.
    """

    monitor: str = "accuracy"

    def __post_init__(self):
        super().__post_init__()
        if "tags" not in self.spec.fields:
            raise ValueError(f"tag needs the field tags, this source has {', '.join(self.spec.fields)}: choose others.")

    @property
    def metrics(self):
        unknown = {"unknown_accuracy": "more"} if "unknown" in self.spec.fields else {}
        return {"loss": "less", "accuracy": "more", **unknown}

    def outputs(self):
        return self.spec.fields["tags"].size

    def reads(self, batch):
        reads = super().reads(batch)
        if "characters" not in self.spec.fields:
            return reads
        return reads._replace(x={"tokens": reads.x, "characters": batch["characters"]})

    def known(self, batch):
        """The tags of all tokens, or, if the source gives `allowed` (bool, one per tag), those that each may have."""
        tags = self.spec.fields["tags"].size
        return {"allowed_BLK": batch["allowed"] if "allowed" in batch else jax.nn.one_hot(batch["tags"], tags) > 0}

    def loss(self, prediction, batch):
        weight_BL = batch["mask"] * batch["weight"][:, None]
        right_BL = jnp.argmax(prediction, axis=-1) == batch["tags"]
        metrics = {
            "loss": Ratio.of(losses.cross_entropy(prediction, batch["tags"]), weight_BL),
            "accuracy": Ratio.of(right_BL, weight_BL),
        }
        if "unknown" in batch:
            metrics["unknown_accuracy"] = Ratio.of(right_BL, weight_BL * batch["unknown"])
        return metrics


Task = Tag
