"""One vector of logits per token."""

import jax.numpy as jnp
from flax import linen as nn

from seqjax import masks
from seqjax.heads._base import Head
from seqjax.mixers._layers import Dense


class Tokenwise(Head, kw_only=True):
    """Logits for each token: W x + b. For language models, taggers and all that predict something at every token."""

    tieable = True

    def setup(self):
        self.dense = Dense(self.outputs, dtype=self.dtype)
        nn.share_scope(self, self.dense)

    def __call__(self, x_BLD, mask_BL=None):
        return masks.fill(self.dense(x_BLD).astype(jnp.float32), mask_BL)


Head = Tokenwise
