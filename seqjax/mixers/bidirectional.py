"""Two mixers, one for each direction."""

from typing import Literal

import jax.numpy as jnp

from seqjax import masks
from seqjax.mixers._layers import Dense
from seqjax.mixers._wrapper import BothWays


class Bidirectional(BothWays):
    """Two mixers, one reading forwards and one backwards, so that each token sees its whole document.

        f_1 ... f_L = forward(x_1 ... x_L),   b_L ... b_1 = backward(x_L ... x_1)
        y_t = f_t + b_t   ("sum")   or   W [f_t, b_t] + v   ("concat", projected back to the width)

    `mixer` is a factory, called once per direction. The result is not causal, so it has no state: it is for encoders
    and classifiers.
    Schuster and Paliwal 1997, "Bidirectional recurrent neural networks", IEEE TSP 45(11).

    Raises:
      ValueError: a state is requested or given.
    """

    merge: Literal["concat", "sum"] = "concat"

    def setup(self):
        super().setup()
        if self.merge == "concat":
            self.out = Dense(self.width, dtype=self.dtype)

    def __call__(self, x_BLD, state=None, *, mask_BL=None, reset_BL=None, deterministic=True, **side):
        self.check(x_BLD, state, mask_BL, reset_BL)

        def run(mixer, x_BLD, mask_BL, reset_BL, side):
            return mixer(x_BLD, mask_BL=mask_BL, reset_BL=reset_BL, deterministic=deterministic, **side)[0]

        f_BLD, b_BLD = self.both(run, x_BLD, mask_BL, reset_BL, side)
        if self.merge == "sum":
            return f_BLD + b_BLD, None
        y_BLD = self.out(jnp.concatenate([f_BLD, b_BLD], axis=-1))
        return masks.fill(y_BLD, mask_BL).astype(x_BLD.dtype), None


Mixer = Bidirectional
