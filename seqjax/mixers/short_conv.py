"""A short convolution before a mixer."""

from typing import Literal

import jax
from flax import linen as nn

from seqjax.mixers._wrapper import Filtered
from seqjax.types import Taps


class ShortConv(Filtered):
    """A short causal convolution before a mixer, one filter per feature, so that the mixer sees the last few tokens.

        u_t = f(sum_j w_j * x_{t-j} + b),   j = 0 ... W - 1,   y = mixer(u)

    W = `kernel_size`; `activation`: f = silu, as in Mamba and DeltaNet, or none, as in Griffin.

    Gu and Dao 2023, "Mamba", arXiv:2312.00752; De et al. 2024, "Griffin", arXiv:2402.19427.
    """

    kernel_size: Taps = 4
    activation: Literal["silu", "none"] = "silu"

    vectors = ("filter",)

    @property
    def taps(self) -> int:
        return self.kernel_size

    def setup(self):
        self.filter = self.param("filter", nn.initializers.lecun_normal(), (self.kernel_size, self.width))
        self.bias = self.param("bias", nn.initializers.zeros, (self.width,))
        self.inner = self.made()

    def filters(self):
        return self.filter

    def activate(self, u_BLD):
        u_BLD = u_BLD + self.bias[None, None]
        return jax.nn.silu(u_BLD) if self.activation == "silu" else u_BLD


Mixer = ShortConv
