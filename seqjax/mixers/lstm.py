"""The long short-term memory."""

import jax.numpy as jnp

from seqjax.mixers._recurrent import Recurrent
from seqjax.ops import scan


class LSTM(Recurrent):
    """LSTM with a forget gate: a memory cell that gates write, keep and read.

        i, f, o = sigmoid(W x_t + U h_{t-1} + b)      (each its own W, U, b)
        g   = tanh(W_g x_t + U_g h_{t-1} + b_g)
        c_t = f * c_{t-1} + i * g
        h_t = o * tanh(c_t),   y_t = h_t

    Gates lie in the order i, f, g, o, as in torch; one bias where torch has two. State: (h, c), each (B, D).
    `forget_bias` is the initial bias of f: 1 keeps the memory open at the start.

    Hochreiter and Schmidhuber 1997, Neural Computation 9(8); forget gate: Gers et al. 2000, 12(10);
    its bias: Jozefowicz et al. 2015, ICML.
    """

    forget_bias: float = 1.0

    gates = 4
    slots = 2

    def init_bias(self, key, shape, dtype=jnp.float32):
        D = self.width
        return jnp.zeros(shape, dtype).at[D : 2 * D].set(self.forget_bias)

    def run(self, x_BLD, state, initial, mask_BL, reset_BL):
        return scan.lstm(x_BLD, self.kernel, self.recurrent, self.bias, state, initial, mask_BL, reset_BL)


Mixer = LSTM
