"""The LSTM with exponential gates."""

import jax.numpy as jnp
from flax import linen as nn

from seqjax.mixers._base import check_heads
from seqjax.mixers._recurrent import Recurrent, forget_open, orthogonal_blocks
from seqjax.ops import cells
from seqjax.types import Count


class SLSTM(Recurrent):
    """sLSTM: an LSTM with an exponential input gate and a normaliser n, so that it can overwrite what it stored.

        z_t = tanh(~z),   i_t = exp(~i),   f_t = sigmoid(~f),   o_t = sigmoid(~o),   ~ = W x_t + R h_{t-1} + b
        c_t = f_t * c_{t-1} + i_t * z_t
        n_t = f_t * n_{t-1} + i_t
        h_t = o_t * c_t / n_t,   y_t = h_t

    The state stores c and n divided by exp(m_t), m_t = max(log f_t + m_{t-1}, ~i). This changes only their range, so
    that exp does not overflow. R mixes units within each of `heads` groups. The gates are in the order i, f, z, o.
    State: (h, c, n, m), each (B, D). The rest of the paper's block (convolution, group norm, projections) is left out.

    Beck et al. 2024, "xLSTM: Extended long short-term memory", arXiv:2405.04517.

    Raises:
      ValueError: heads do not divide the width.
    """

    heads: Count = 1
    forget_bias: float = 3.0

    gates = 4
    is_plain = False
    free = 1  # only h: c, n and m depend on each other
    cell = staticmethod(cells.slstm)

    def __post_init__(self):
        super().__post_init__()
        check_heads(self.width, self.heads)

    @property
    def shapes(self):
        return ((self.width,),) * 4

    @nn.nowrap
    def zero_state(self, batch):
        # m starts far below any gate, so that the empty initial state has no weight.
        h, c, n, m = super().zero_state(batch)
        return h, c, n, m - 1e30

    def init_recurrent(self, key, shape, dtype=jnp.float32):
        K = self.width // self.heads
        return orthogonal_blocks(4)(key, (self.heads, K, 4 * K), dtype)

    def init_bias(self, key, shape, dtype=jnp.float32):
        return forget_open(self.forget_bias, shape, dtype)


Mixer = SLSTM
