"""The hierarchically gated recurrent network."""

from typing import Annotated

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax.mixers._layers import Dense
from seqjax.mixers._linear import LinearMixer
from seqjax.ops import linear
from seqjax.types import Range


class HGRN(LinearMixer):
    """HGRN: a linear recurrence with a forget gate that has a lower bound, and a normalised, gated output.

        f   = l + (1 - l) sigmoid(W_f x_t)
        h_t = f * h_{t-1} + (1 - f) * silu(W_i x_t)
        y_t = W_o (RMSNorm(h_t) * silu(W_g x_t))

    `lower_bound` is l: with l near 1 the state forgets slowly. In the paper each layer learns its own l, which rises
    from 0 in the first layer towards 1 in the last. A mixer does not know its layer, so here l is a constant; a list of
    mixers gives each layer its own (`lower_bound` j / n in layer j of n is where the paper starts). At -1, f is in
    (-1, 1): a gate can then change the sign of the state, which parity needs.

    This is the real form, as in the authors' later code; in the paper h is complex, and each channel rotates at its
    own rate. State: h (B, D), float32.

    Qin et al. 2023, "Hierarchically gated recurrent neural network for sequence modeling", arXiv:2311.04823; negative
    gates: Grazzi et al. 2024, arXiv:2411.12537.
    """

    lower_bound: Annotated[float, Range(least=-1, below=1)] = 0.0

    cuttable = True

    def setup(self):
        dense = lambda n: Dense(n, use_bias=False, dtype=self.dtype)
        self.inputs, self.out = dense(3 * self.width), dense(self.width)
        self.norm = nn.RMSNorm(dtype=jnp.float32)

    @nn.nowrap
    def init_state(self, batch: int):
        return jnp.zeros((batch, self.width), jnp.float32)

    def mix(self, x_BLD, state, mask_BL, reset_BL):
        # float32, because a decay of 0.999 rounds to 1 in bfloat16.
        f_BLD, i_BLD, g_BLD = jnp.split(self.inputs(x_BLD).astype(jnp.float32), 3, axis=-1)
        take_BLD = (1 - self.lower_bound) * jax.nn.sigmoid(-f_BLD)
        h_BLD, end_BD = linear.diagonal(1 - take_BLD, take_BLD * jax.nn.silu(i_BLD), state, mask_BL, reset_BL)
        return self.out(self.norm(h_BLD) * jax.nn.silu(g_BLD)), end_BD


Mixer = HGRN
