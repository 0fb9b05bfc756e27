"""Small models with something wrong in them."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax.models import Model
from seqjax.types import Count, Dtype

SHORT = 4  # tokens; what is longer brings out the fault


class Bag(Model):
    """A model of single tokens, as sound as it is dull; its parameters have the dtype that the config asks for."""

    width: Count = 4
    param_dtype: Dtype = "float32"

    @nn.compact
    def __call__(self, tokens_BL, state=None, *, mask_BL=None, reset_BL=None, deterministic=True):
        x_BLD = nn.Embed(self.inputs.vocabulary, self.width, param_dtype=self.param_dtype)(tokens_BL)
        self.fault(tokens_BL, deterministic)
        head = self.head(inputs=self.inputs, width=self.width, parent=None)
        return nn.Dense(head.outputs, param_dtype=self.param_dtype)(x_BLD.astype(jnp.float32)), state

    def fault(self, tokens_BL, deterministic):
        """Nothing here."""


class Fused(Bag):
    """Raises when it is evaluated on a long batch."""

    def fault(self, tokens_BL, deterministic):
        if deterministic and tokens_BL.shape[1] > SHORT:
            raise RuntimeError("the fuse is gone")


class Hungry(Bag):
    """Wants 64 TiB when it meets a long batch."""

    @nn.compact
    def __call__(self, tokens_BL, state=None, *, mask_BL=None, reset_BL=None, deterministic=True):
        logits_BLV, state = super().__call__(tokens_BL, state)
        if tokens_BL.shape[1] > SHORT:
            many = jnp.sort(jnp.arange(2**44, dtype=jnp.float32) * tokens_BL[0, 0])
            logits_BLV += 0 * jax.lax.stop_gradient(many)[0]
        return logits_BLV, state
