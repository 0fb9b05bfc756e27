"""The LSTM with exponential gates."""

import jax.numpy as jnp
from flax import linen as nn

from seqjax.mixers._base import check_heads
from seqjax.mixers._recurrent import Recurrent, forget_open, orthogonal_blocks
from seqjax.ops import cells
from seqjax.types import Count


class SLSTM(Recurrent):
    """sLSTM: an LSTM whose input gate is exponential, with a normaliser so that it can revise what it stored.

        z_t = tanh(~z),   i_t = exp(~i),   f_t = sigmoid(~f),   o_t = sigmoid(~o),   ~ = W x_t + R h_{t-1} + b
        c_t = f_t * c_{t-1} + i_t * z_t
        n_t = f_t * n_{t-1} + i_t
        h_t = o_t * c_t / n_t,   y_t = h_t

    c and n are kept divided by exp(m_t), m_t = max(log f_t + m_{t-1}, ~i), which changes nothing but the range.
    R mixes within each of `heads` groups of units. Gates lie in the order i, f, z, o. State: (h, c, n, m), each (B, D).
    What surrounds it in the paper's block (convolution, group norm, projections) is not part of it.

    Beck et al. 2024, "xLSTM: Extended long short-term memory", arXiv:2405.04517.

    Raises:
      ValueError: heads do not divide the width.
    """

    heads: Count = 1
    forget_bias: float = 3.0

    gates = 4
    is_plain = False
    free = 1  # c, n and m belong together
    cell = staticmethod(cells.slstm)

    def __post_init__(self):
        super().__post_init__()
        check_heads(self.width, self.heads)

    @property
    def shapes(self):
        return ((self.width,),) * 4

    @nn.nowrap
    def zero_state(self, batch):
        # m starts far below any gate: what is not there yet weighs nothing.
        h, c, n, m = super().zero_state(batch)
        return h, c, n, m - 1e30

    def init_recurrent(self, key, shape, dtype=jnp.float32):
        K = self.width // self.heads
        return orthogonal_blocks(4)(key, (self.heads, K, 4 * K), dtype)

    def init_bias(self, key, shape, dtype=jnp.float32):
        return forget_open(self.forget_bias, shape, dtype)


Mixer = SLSTM
