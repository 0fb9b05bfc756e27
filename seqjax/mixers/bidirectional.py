"""Two mixers, one for each direction."""

from collections.abc import Callable
from typing import Annotated, Literal

import jax.numpy as jnp
from flax import linen as nn

from seqjax import masks
from seqjax.mixers._base import Mixer
from seqjax.mixers._layers import Dense
from seqjax.mixers._memory import check_alone
from seqjax.mixers.lstm import LSTM
from seqjax.types import Part


class Bidirectional(Mixer):
    """Two mixers, one reading forwards and one backwards, so that each token sees its whole document.

        f_1 ... f_L = forward(x_1 ... x_L),   b_L ... b_1 = backward(x_L ... x_1)
        y_t = f_t + b_t   ("sum")   or   W [f_t, b_t] + v   ("concat", projected back to the width)

    `mixer` is a factory, called once per direction. The result is not causal, so it has no state: it is for encoders
    and classifiers.
    Schuster and Paliwal 1997, "Bidirectional recurrent neural networks", IEEE TSP 45(11).

    Raises:
      ValueError: a state is requested or given.
    """

    mixer: Annotated[Callable, Part("seqjax.mixers", "Mixer")] = LSTM
    merge: Literal["concat", "sum"] = "concat"

    family = "wrapper"
    causal = False

    def __post_init__(self):
        super().__post_init__()
        check_alone([self._inner], "a bidirectional mixer")  # this builds the inner mixer, so bad options fail now

    @property
    def _inner(self) -> Mixer:
        return self.mixer(width=self.width, dtype=self.dtype, parent=None)

    @property
    def cuttable(self):
        return self._inner.cuttable

    @property
    def side(self):
        return self._inner.side

    def setup(self):
        self.forward = self.mixer(width=self.width, dtype=self.dtype)
        self.backward = self.mixer(width=self.width, dtype=self.dtype)
        if self.merge == "concat":
            self.out = Dense(self.width, dtype=self.dtype)

    @nn.nowrap
    def init_state(self, batch: int):
        raise ValueError(
            "a bidirectional mixer sees later tokens and has no state: use only its inner mixer "
            "(for example mixer.name='lstm') to run step by step."
        )

    def __call__(self, x_BLD, state=None, *, mask_BL=None, reset_BL=None, deterministic=True, **side):
        self.check(x_BLD, state, mask_BL, reset_BL)
        flip = lambda a: None if a is None else jnp.flip(a, axis=1)
        ends_BL = masks.ends(x_BLD.shape[:2], mask_BL, reset_BL)
        options = dict(deterministic=deterministic)
        f_BLD, _ = self.forward(x_BLD, mask_BL=mask_BL, reset_BL=reset_BL, **options, **side)
        options |= {name: flip(a) for name, a in side.items()}
        b_BLD, _ = self.backward(flip(x_BLD), mask_BL=flip(mask_BL), reset_BL=flip(ends_BL), **options)
        b_BLD = flip(b_BLD)
        if self.merge == "sum":
            return f_BLD + b_BLD, None
        y_BLD = self.out(jnp.concatenate([f_BLD, b_BLD], axis=-1))
        return masks.fill(y_BLD, mask_BL).astype(x_BLD.dtype), None


Mixer = Bidirectional
