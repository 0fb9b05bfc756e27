"""The minimal gated recurrent unit."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax import masks
from seqjax.mixers._base import Mixer as _Mixer
from seqjax.mixers._layers import Dense
from seqjax.ops import linear


class MinGRU(_Mixer):
    """minGRU: a GRU whose gate and candidate do not depend on the state, so that the recurrence is linear.

        z   = sigmoid(W_z x_t + b_z)
        n   = f(W_n x_t + b_n)
        h_t = (1 - z) * h_{t-1} + z * n,   y_t = h_t

    candidate="linear": f(v) = v. candidate="positive": f(v) = v + 1/2 where v >= 0, else sigmoid(v), as in the paper's
    log-space form; the state is then positive. State: h (B, D), float32.

    Feng et al. 2024, "Were RNNs all we needed?", arXiv:2410.01201. The paper also widens the state and projects it
    back; this mixer does not.
    """

    candidate: Literal["linear", "positive"] = "linear"

    cuttable = True

    def setup(self):
        self.inputs = Dense(2 * self.width, dtype=self.dtype)

    @nn.nowrap
    def init_state(self, batch: int):
        return jnp.zeros((batch, self.width), jnp.float32)

    def __call__(self, x_BLD, state=None, *, mask_BL=None, reset_BL=None, deterministic=True):
        self.check(x_BLD, state, mask_BL, reset_BL)
        # float32, because a decay of 0.999 rounds to 1 in bfloat16.
        u_BLM = self.inputs(masks.fill(x_BLD, mask_BL)).astype(jnp.float32)
        z_BLN, n_BLN = jnp.split(u_BLM, 2, axis=-1)
        if self.candidate == "positive":
            n_BLN = jnp.where(n_BLN >= 0, n_BLN + 0.5, jax.nn.sigmoid(n_BLN))
        start = self.init_state(x_BLD.shape[0]) if state is None else state
        # sigmoid(-z) is 1 - sigmoid(z) without the rounding error.
        keep_BLN, take_BLN = jax.nn.sigmoid(-z_BLN), jax.nn.sigmoid(z_BLN)
        h_BLN, end = linear.diagonal(keep_BLN, take_BLN * n_BLN, start, mask_BL, reset_BL)
        return h_BLN.astype(x_BLD.dtype), None if state is None else end


Mixer = MinGRU
