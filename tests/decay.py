"""A mixer that reads a side input."""

import jax.numpy as jnp
from flax import linen as nn

from seqjax import masks
from seqjax.mixers import _layers
from seqjax.mixers._base import Mixer
from seqjax.ops import linear


class Decay(Mixer):
    """h_t = exp(-elapsed_t) h_{t-1} + W x_t: a mixer that reads how much time has passed since the token before."""

    side = ("elapsed_BLF",)
    cuttable = True

    @nn.nowrap
    def init_state(self, batch):
        return jnp.zeros((batch, self.width))

    @nn.compact
    def __call__(self, x_BLD, state=None, *, mask_BL=None, reset_BL=None, deterministic=True, elapsed_BLF):
        self.check(x_BLD, state, mask_BL, reset_BL)
        start_BD = self.init_state(len(x_BLD)) if state is None else state
        u_BLD = _layers.Dense(self.width, dtype=self.dtype)(masks.fill(x_BLD, mask_BL)).astype(jnp.float32)
        keep_BLD = jnp.broadcast_to(jnp.exp(-masks.fill(elapsed_BLF, mask_BL)), u_BLD.shape)
        h_BLD, end = linear.diagonal(keep_BLD, u_BLD, start_BD, mask_BL, reset_BL)
        return masks.fill(h_BLD, mask_BL).astype(x_BLD.dtype), None if state is None else end
