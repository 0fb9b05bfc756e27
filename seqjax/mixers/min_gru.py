"""The minimal gated recurrent unit."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax.mixers._layers import Dense
from seqjax.mixers._linear import LinearMixer
from seqjax.ops import linear


class MinGRU(LinearMixer):
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
    gates = 1  # how many parts of the projection decide how much of the state stays

    def setup(self):
        self.inputs = Dense((self.gates + 1) * self.width, dtype=self.dtype)

    @nn.nowrap
    def init_state(self, batch: int):
        return jnp.zeros((batch, self.width), jnp.float32)

    def mix(self, x_BLD, state, mask_BL, reset_BL):
        # float32, because a decay of 0.999 rounds to 1 in bfloat16.
        *gates, n_BLN = jnp.split(self.inputs(x_BLD).astype(jnp.float32), self.gates + 1, axis=-1)
        if self.candidate == "positive":
            n_BLN = jnp.where(n_BLN >= 0, n_BLN + 0.5, jax.nn.sigmoid(n_BLN))
        z_BLN = self.balance(*gates)
        # sigmoid(-z) is 1 - sigmoid(z) without the rounding error.
        keep_BLN, take_BLN = jax.nn.sigmoid(-z_BLN), jax.nn.sigmoid(z_BLN)
        return linear.diagonal(keep_BLN, take_BLN * n_BLN, state, mask_BL, reset_BL)

    def balance(self, z_BLN):
        """z, where sigmoid(z) is the share of the new state that the candidate has."""
        return z_BLN


Mixer = MinGRU
