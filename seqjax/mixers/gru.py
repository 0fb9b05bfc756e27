"""The gated recurrent unit."""

from flax import linen as nn

from seqjax.mixers._recurrent import Recurrent
from seqjax.ops import scan


class GRU(Recurrent):
    """GRU: one state that an update gate moves towards a candidate.

        r, z = sigmoid(W x_t + U h_{t-1} + b)         (each its own W, U, b)
        n   = tanh(W_n x_t + b_n + r * (U_n h_{t-1} + c_n))
        h_t = (1 - z) * n + z * h_{t-1},   y_t = h_t

    The reset gate acts after the recurrent product, as in torch and cuDNN. Gates lie in the order r, z, n.
    State: h (B, D). Cho et al. 2014, "Learning phrase representations using RNN encoder-decoder", arXiv:1406.1078.
    """

    gates = 3

    def setup(self):
        super().setup()
        self.bias_n = self.param("bias_n", nn.initializers.zeros, (self.width,))

    def run(self, x_BLD, h_BN, initial, mask_BL, reset_BL):
        return scan.gru(x_BLD, self.kernel, self.recurrent, self.bias, self.bias_n, h_BN, initial, mask_BL, reset_BL)


Mixer = GRU
