"""The recurrent convolutional network."""

from collections.abc import Callable
from typing import Annotated

import jax.numpy as jnp

from seqjax import masks
from seqjax.mixers._layers import Dense
from seqjax.mixers._wrapper import BothWays
from seqjax.mixers.rnn import Elman
from seqjax.ops import conv
from seqjax.types import Part


class RCNN(BothWays):
    """RCNN: each token between its left and its right context, which two recurrent mixers read; then one layer.

        l_1 ... l_L = forward(x_1 ... x_L),   r_L ... r_1 = backward(x_L ... x_1)
        y_t = tanh(W [l_{t-1}, x_t, r_{t+1}] + b)

    Contexts outside of the document are zero (learned in the paper). With task.head.pool="max" and one layer it is the
    classifier of the paper. `mixer` is a factory, called once per direction. It is not causal, so it has no state.

    Lai et al. 2015, "Recurrent convolutional neural networks for text classification", AAAI.

    Raises:
      ValueError: a state is requested or given.
    """

    mixer: Annotated[Callable, Part("seqjax.mixers", "Mixer")] = Elman

    def setup(self):
        super().setup()
        self.out = Dense(self.width, dtype=self.dtype)

    def __call__(self, x_BLD, state=None, *, mask_BL=None, reset_BL=None, deterministic=True, **side):
        self.check(x_BLD, state, mask_BL, reset_BL)

        def run(mixer, x_BLD, mask_BL, reset_BL, side):
            """The state before each token."""
            flags = dict(mask_BL=mask_BL, reset_BL=reset_BL)
            y_BLD, _ = mixer(x_BLD, **flags, deterministic=deterministic, **side)
            shift_WD = jnp.zeros((2, self.width)).at[0].set(1)
            return conv.depthwise(y_BLD, shift_WD, jnp.zeros_like(y_BLD[:, :1], jnp.float32), **flags)[0]

        x_BLD = masks.fill(x_BLD, mask_BL)
        l_BLD, r_BLD = self.both(run, x_BLD, mask_BL, reset_BL, side)
        y_BLD = jnp.tanh(self.out(jnp.concatenate([l_BLD, x_BLD, r_BLD], axis=-1)))
        return masks.fill(y_BLD, mask_BL).astype(x_BLD.dtype), None


Mixer = RCNN
