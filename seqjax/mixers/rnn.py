"""The simple recurrent network."""

from typing import Literal

from seqjax.mixers._recurrent import Recurrent
from seqjax.ops import cells, scan


class Elman(Recurrent):
    """Elman RNN: the simple recurrent network, whose state is its last output.

        h_t = f(W x_t + U h_{t-1} + b),   y_t = h_t,   f = tanh or relu

    State: h (B, D). Elman 1990, "Finding structure in time", Cognitive Science 14(2).
    """

    activation: Literal["tanh", "relu"] = "tanh"

    @property
    def cell(self):
        return getattr(cells, self.activation)

    def fast(self, x_BLD, recurrent, before, initial, **flags):
        given = (self.kernel, recurrent, self.bias, *before, *initial)
        y_BLD, h_BD = scan.elman(x_BLD, *given, activation=self.activation, **flags)
        return y_BLD, (h_BD,)


Mixer = Elman
