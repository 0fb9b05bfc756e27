"""The gated recurrent unit."""

import jax.numpy as jnp
from flax import linen as nn

from seqjax.mixers._recurrent import Recurrent
from seqjax.ops import cells, scan


class GRU(Recurrent):
    """GRU: one state that an update gate moves towards a candidate.

        r, z = sigmoid(W x_t + U h_{t-1} + b)         (each has its own W, U, b)
        n   = tanh(W_n x_t + b_n + r * (U_n h_{t-1} + c_n))     reset_after=True: after the recurrent product
        n   = tanh(W_n x_t + b_n + U_n (r * h_{t-1}))           reset_after=False: before it
        h_t = (1 - z) * n + z * h_{t-1},   y_t = h_t

    `reset_after`: True is the form of torch and cuDNN, with one recurrent product per token. False is the form of Cho
    et al. 2014, with two. The gates are in the order r, z, n. State: h (B, D).

    Cho et al. 2014, "Learning phrase representations using RNN encoder-decoder", arXiv:1406.1078.
    """

    reset_after: bool = True

    gates = 3

    def setup(self):
        super().setup()
        if self.reset_after:
            self.bias_n = self.param("bias_n", nn.initializers.zeros, (self.width,))

    @property
    def cell(self):
        return cells.gru if self.reset_after else cells.gru_before

    @property
    def is_plain(self):
        return self.reset_after

    def weights(self, recurrent):
        if self.reset_after:
            return {"recurrent": recurrent}
        gates, candidate = jnp.split(recurrent, [2 * self.width], axis=1)
        return {"gates": gates, "candidate": candidate}

    def rows(self, batch):
        return {"bias_n": self.row(self.bias_n, batch)} if self.reset_after else {}

    def fast(self, x_BLD, recurrent, before, initial, **flags):
        y_BLD, h_BD = scan.gru(x_BLD, self.kernel, recurrent, self.bias, self.bias_n, *before, *initial, **flags)
        return y_BLD, (h_BD,)


Mixer = GRU
