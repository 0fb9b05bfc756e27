"""A gate around a mixer."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax import masks
from seqjax.mixers._layers import Dense
from seqjax.mixers._wrapper import Single
from seqjax.mixers.rg_lru import RGLRU
from seqjax.mixers.short_conv import ShortConv
from seqjax.types import Part, Positive


class Gated(Single):
    """A gate around a mixer: what the mixer gives is multiplied by a function of the token, and projected back.

        y = W_o (mixer(W_1 x) * f(W_2 x))

    The mixer inside is E = `expansion` D wide. `activation`: f = gelu or silu. Around a short convolution before a
    recurrence it is the block of two papers: the default is the recurrent block of Griffin (gelu; RG-LRU); Mamba's has
    expansion 2 and silu.

    De et al. 2024, "Griffin", arXiv:2402.19427; Gu and Dao 2023, "Mamba", arXiv:2312.00752.

    Raises:
      ValueError: the mixer inside has no feature.
    """

    mixer: Annotated[Callable, Part("seqjax.mixers", "Mixer")] = partial(ShortConv, mixer=RGLRU, activation="none")
    expansion: Positive = 1.0
    activation: Literal["gelu", "silu"] = "gelu"

    @property
    def _inner_width(self) -> int:
        """E, the width of the mixer inside."""
        return int(self.expansion * self.width)

    @nn.nowrap
    def made(self, **kwargs):
        if self._inner_width < 1:
            raise ValueError(
                f"mixer.expansion={self.expansion} times model.width={self.width} is less than one feature: raise "
                "mixer.expansion."
            )
        return self.mixer(width=self._inner_width, dtype=self.dtype, **kwargs)

    def setup(self):
        self.inputs = Dense(2 * self._inner_width, dtype=self.dtype)
        self.inner = self.made()
        self.out = Dense(self.width, dtype=self.dtype)

    @nn.nowrap
    def init_state(self, batch: int):
        return self.made(parent=None).init_state(batch)

    def __call__(self, x_BLD, state=None, *, mask_BL=None, reset_BL=None, deterministic=True, **side):
        self.check(x_BLD, state, mask_BL, reset_BL)
        u_BLE, gate_BLE = jnp.split(self.inputs(masks.fill(x_BLD, mask_BL)), 2, axis=-1)
        flags = dict(mask_BL=mask_BL, reset_BL=reset_BL, deterministic=deterministic)
        y_BLE, state = self.inner(u_BLE, state, **flags, **side)
        f = {"gelu": jax.nn.gelu, "silu": jax.nn.silu}[self.activation]
        y_BLD = self.out(y_BLE * f(gate_BLE))
        return masks.fill(y_BLD, mask_BL).astype(x_BLD.dtype), state


Mixer = Gated
