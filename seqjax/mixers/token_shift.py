"""A mean of each token with the one before it, before a mixer."""

import jax.numpy as jnp

from seqjax.mixers._wrapper import Filtered


class TokenShift(Filtered):
    """A token shift before a mixer: each feature is a learned mean of the token and the one before it.

        u_t = x_t + m * (x_{t-1} - x_t),   y = mixer(u)

    m starts at 1 - i / D for feature i, from the token before to the token itself, as in the first layer of RWKV-4.

    Peng et al. 2023, "RWKV: reinventing RNNs for the transformer era", arXiv:2305.13048. RWKV has one m for each of its
    projections; this wrapper has one for all that the mixer inside reads.
    """

    taps = 2

    def setup(self):
        D = self.width
        self.mix = self.param("mix", lambda key: 1 - jnp.arange(D, dtype=jnp.float32) / D)
        self.inner = self.made()

    def filters(self):
        return jnp.stack([self.mix, 1 - self.mix])


Mixer = TokenShift
