"""A sequence classifier."""

from typing import Literal

import jax.numpy as jnp
from flax import linen as nn

from seqjax import masks
from seqjax.mixers._layers import Dense, Embed
from seqjax.models._blocks import Backbone
from seqjax.ops import attention, pooling, weights

Pool = Literal["mean", "last", "max", "attention"]


class Classifier(Backbone, kw_only=True):
    """Sequence classifier: embedding, a stack of mixers, pooling over time, and one logit per class.

        x = E[token] or W x + b,  x = block_i(x),  logits = W_o pool(norm(x)) + b_o

    `pool` combines the real tokens: "mean", "last" (the last token), "max" (the maximum per feature), or "attention" (a
    weighted sum with learned scores; `pool_weights` turns scores into weights: see `seqjax/ops/weights.py`).
    `apply(..., mutable=["intermediates"])` returns the weights (B, L) of "attention" under "weights".
    A classifier reads whole sequences, so it has no state.
    """

    pool: Pool = "mean"
    pool_weights: attention.Weights = "softmax"

    called = "a classifier"

    def __post_init__(self):
        super().__post_init__()
        if self.pool_weights != "softmax" and self.pool != "attention":
            raise ValueError(
                f"model.pool_weights={self.pool_weights!r} needs model.pool='attention', got {self.pool!r}: set "
                "model.pool='attention', or remove model.pool_weights."
            )

    def setup(self):
        super().setup()
        if self.inputs.vocabulary is not None:
            init = nn.initializers.normal(1.0)
            self.embedding = Embed(self.inputs.vocabulary, self.width, embedding_init=init, dtype=self.dtype)
        else:
            self.embedding = Dense(self.width, dtype=self.dtype)
        if self.pool == "attention":
            self.score = Dense(1, dtype=self.dtype)
        self.head = Dense(self.outputs, dtype=self.dtype)

    @nn.nowrap
    def init_state(self, batch: int):
        raise ValueError(
            "a classifier reads whole sequences and has no state: use model.name='lm' to run step by step."
        )

    def __call__(self, x_BL, state=None, *, mask_BL=None, reset_BL=None, deterministic=True):
        """Tokens (B, L) or features (B, L, F) -> logits_BC (float32), and None as the state."""
        if state is not None:
            self.init_state(x_BL.shape[0])
        F = self.inputs.features
        if F is not None and (x_BL.ndim != 3 or x_BL.shape[-1] != F):
            raise ValueError(
                f"the features are {list(x_BL.shape)}, wanted [B, L, {F}]: use as many features as the data source has."
            )
        mask_BL = jnp.ones(x_BL.shape[:2], bool) if mask_BL is None else mask_BL
        x_BLD = self.embedding(masks.fill(x_BL, mask_BL))
        x_BLD, _ = self.run(x_BLD, None, mask_BL, reset_BL, deterministic)
        if self.pool == "attention":
            score_BL = self.score(x_BLD)[..., 0]
            x_BD = pooling.attention(x_BLD, score_BL, mask_BL, self.pool_weights)
            if self.is_mutable_collection("intermediates"):
                self.sow("intermediates", "weights", getattr(weights, self.pool_weights)(score_BL, mask_BL))
        else:
            pool = {"mean": pooling.mean, "last": pooling.last, "max": pooling.maximum}[self.pool]
            x_BD = pool(x_BLD, mask_BL)
        return self.head(x_BD).astype(jnp.float32), None


Model = Classifier
