"""A causal language model."""

import jax.numpy as jnp
from flax import linen as nn

from seqjax import masks
from seqjax.mixers._base import one_token
from seqjax.mixers._layers import Dense, Embed
from seqjax.models._blocks import Backbone


class LanguageModel(Backbone, kw_only=True):
    """Causal language model: embedding, a stack of mixers, and logits for the next token.

        x = E[token],  x = block_i(x) for all layers,  logits = W norm(x)   (W = E^T if tied)

    It has the signature of a mixer, with tokens in and logits out, and obeys the same laws. Logits are float32.
    """

    tie_embeddings: bool = False

    called = "a language model"

    def __post_init__(self):
        super().__post_init__()
        if blind := [b.mixer for b in self.stack(parent=None) if not b.mixer.causal]:
            raise ValueError(
                f"{self.called} must not see the tokens that it predicts, but {type(blind[0]).__name__} does: choose a "
                "causal mixer, or model.name='classifier'."
            )
        if self.inputs.vocabulary is None:
            raise ValueError(
                f"{self.called} reads tokens, but this data source has features: choose model.name='classifier'."
            )
        if self.tie_embeddings and self.inputs.vocabulary != self.outputs:
            raise ValueError(
                f"model.tie_embeddings needs as many outputs as input tokens, got {self.outputs} outputs and a "
                f"vocabulary of {self.inputs.vocabulary}: set model.tie_embeddings=False."
            )

    def setup(self):
        super().setup()
        # If tied, the embedding is also the head: a variance of 1 / D then gives logits of unit variance.
        init = nn.initializers.normal(self.width**-0.5 if self.tie_embeddings else 1.0)
        self.embedding = Embed(self.inputs.vocabulary, self.width, embedding_init=init, dtype=self.dtype)
        if not self.tie_embeddings:
            self.head = Dense(self.outputs, dtype=self.dtype)

    def __call__(self, tokens_BL, state=None, *, mask_BL=None, reset_BL=None, deterministic=True):
        """tokens_BL -> logits_BLV (float32; zero where masked) and the state, as in a mixer."""
        if not jnp.issubdtype(tokens_BL.dtype, jnp.integer):
            raise ValueError(
                f"tokens_BL is {tokens_BL.dtype}{list(tokens_BL.shape)}, a language model wants integers [B, L]."
            )
        x_BLD = self.embedding(masks.fill(tokens_BL, mask_BL))
        x_BLD, state = self.run(x_BLD, state, mask_BL, reset_BL, deterministic)
        logits_BLV = self.embedding.attend(x_BLD) if self.tie_embeddings else self.head(x_BLD)
        return masks.fill(logits_BLV.astype(jnp.float32), mask_BL), state

    def step(self, tokens_B, state, *, mask_B=None, reset_B=None):
        """One token: tokens_B -> logits_BV."""
        return one_token(self, tokens_B, state, mask_B, reset_B)


Model = LanguageModel
