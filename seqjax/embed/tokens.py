"""One vector per token."""

import jax.numpy as jnp
from flax import linen as nn

from seqjax import masks
from seqjax.embed._base import Embed
from seqjax.mixers import _layers


class Tokens(Embed, kw_only=True):
    """Embedding table: x = E[token]."""

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
        return self.table(masks.fill(x, mask_BL)), mask_BL

    def attend(self, x_BLD):
        return self.table.attend(x_BLD)


Embed = Tokens
