"""The minimal gated unit."""

import jax.numpy as jnp

from seqjax.mixers._recurrent import Recurrent
from seqjax.ops import cells


class MGU(Recurrent):
    """MGU: a GRU with a single gate, which is both the forget gate and the reset gate.

        f   = sigmoid(W_f x_t + U_f h_{t-1} + b_f)
        n   = tanh(W_n x_t + U_n (f * h_{t-1}) + b_n)
        h_t = (1 - f) * h_{t-1} + f * n,   y_t = h_t

    The gates are in the order f, n. State: h (B, D).
    Zhou et al. 2016, "Minimal gated unit for recurrent neural networks", arXiv:1603.09420.
    """

    gates = 2
    is_plain = False
    cell = staticmethod(cells.mgu)

    def weights(self, recurrent):
        gates, candidate = jnp.split(recurrent, 2, axis=1)
        return {"gates": gates, "candidate": candidate}


Mixer = MGU
