"""One vector per token."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax import masks
from seqjax.embed._base import Embed
from seqjax.mixers import _layers
from seqjax.ops import losses
from seqjax.types import Fraction


class Tokens(Embed, kw_only=True):
    """Embedding table: x = E[token].

    `dropout`: the share of ids whose vectors are zero in the whole batch (embedding dropout:
    Gal and Ghahramani 2016, arXiv:1512.05287; Merity et al. 2017, arXiv:1708.02182). A head with the same table
    (`tie_embeddings`) reads all of it.
    """

    dropout: Fraction = 0.0

    kind = "ids"
    tieable = True

    def setup(self):
        # As a head, a variance of 1 / D gives logits of unit variance.
        init = nn.initializers.normal(self.width**-0.5 if self.tied else 1.0)
        size = self.inputs.fields[self.field].size
        self.table = _layers.Embed(size, self.width, embedding_init=init, dtype=self.dtype)
        nn.share_scope(self, self.table)

    def __call__(self, x, mask_BL=None, deterministic=True):
        x = x[self.field] if isinstance(x, dict) else x  # of several fields, it reads one
        if not jnp.issubdtype(x.dtype, jnp.integer) or x.ndim != 2:
            raise ValueError(
                f"{self.field}: got {x.dtype}{list(x.shape)}, the embedding wants [B, L] integers, one id per place."
            )
        x_BLD = self.table(masks.fill(x, mask_BL))
        if self.dropout and not deterministic:
            kept_V = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.dropout, (self.table.num_embeddings,))
            x_BLD = x_BLD * (kept_V / (1 - self.dropout))[masks.fill(x, mask_BL)][..., None].astype(x_BLD.dtype)
        return x_BLD, mask_BL

    def attend(self, x_BLD, mask_BL=None):
        return losses.logits(x_BLD, self.table.embedding, None, mask_BL, "BLD,VD->BLV", self.dtype)


Embed = Tokens
