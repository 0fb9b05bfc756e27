"""The simple recurrent network."""

from typing import Literal

from seqjax.mixers._recurrent import Recurrent
from seqjax.ops import scan


class Elman(Recurrent):
    """Elman RNN: the state is the last output.

        h_t = f(W x_t + U h_{t-1} + b),   y_t = h_t,   f = tanh or relu

    State: h (B, D). Elman 1990, "Finding structure in time", Cognitive Science 14(2).
    """

    activation: Literal["tanh", "relu"] = "tanh"

    def run(self, x_BLD, h_BN, initial, mask_BL, reset_BL):
        return scan.elman(
            x_BLD, self.kernel, self.recurrent, self.bias, h_BN, initial, mask_BL, reset_BL, activation=self.activation
        )


Mixer = Elman
