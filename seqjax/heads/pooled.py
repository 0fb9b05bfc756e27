"""One vector of logits per sequence."""

from typing import Literal

import jax.numpy as jnp

from seqjax.heads._base import Head
from seqjax.mixers._layers import Dense
from seqjax.ops import attention, pooling
from seqjax.ops import weights as kinds


class Pooled(Head, kw_only=True):
    """Logits for a whole sequence: W pool(x) + b.

    `pool` combines the real tokens: "mean", "last" (the last token), "max" (the maximum per feature), or "attention" (a
    weighted sum with learned scores; `weights` turns scores into weights: see `seqjax/ops/weights.py`).
    `apply(..., mutable=["intermediates"])` returns the weights (B, L) of "attention" under "weights".
    """

    pool: Literal["mean", "last", "max", "attention"] = "mean"
    weights: attention.Weights = "softmax"

    stepwise = False
    pools = True
    outermost = True  # in checkpoints of 0.1, "score" is beside "head"

    def __post_init__(self):
        super().__post_init__()
        if self.weights != "softmax" and self.pool != "attention":
            raise ValueError(
                f"task.head.weights={self.weights!r} needs task.head.pool='attention', got {self.pool!r}: set "
                "task.head.pool='attention', or remove task.head.weights."
            )

    def setup(self):
        if self.pool == "attention":
            self.score = Dense(1, dtype=self.dtype)
        self.head = Dense(self.outputs, dtype=self.dtype)

    def __call__(self, x_BLD, mask_BL=None):
        return self.logits(self.pooled(x_BLD, mask_BL))

    def pooled(self, x_BLD, mask_BL=None):
        """One vector per sequence: (B, L, D) -> (B, D)."""
        mask_BL = jnp.ones(x_BLD.shape[:2], bool) if mask_BL is None else mask_BL
        if self.pool == "attention":
            score_BL = self.score(x_BLD)[..., 0]
            if self.is_mutable_collection("intermediates"):
                self.sow("intermediates", "weights", getattr(kinds, self.weights)(score_BL, mask_BL))
            return pooling.attention(x_BLD, score_BL, mask_BL, self.weights)
        pool = {"mean": pooling.mean, "last": pooling.last, "max": pooling.maximum}[self.pool]
        return pool(x_BLD, mask_BL)

    def logits(self, x_BD):
        """The prediction from such a vector."""
        return self.head(x_BD).astype(jnp.float32)


Head = Pooled
