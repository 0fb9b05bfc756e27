"""Convolutions that see both sides of a token."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax import masks
from seqjax.mixers._base import Mixer as _Mixer
from seqjax.ops import conv
from seqjax.types import Taps


class CNN(_Mixer):
    """Convolutions of several widths side by side, each over a window around the token: with a pooled head, TextCNN.

        y_t = [relu(W_k x_{t - k // 2} ... x_{t + (k - 1) // 2} + b_k) for k in kernel_sizes]

    Each width has its share of the D features of y; the first ones have one more if the shares are not equal. With
    task.head.pool="max" and one layer it is the classifier of Kim; a window that is cut by the end of a document is
    filled up with zeros, where Kim leaves it out. It is not causal, so it has no state.

    Kim 2014, "Convolutional neural networks for sentence classification", arXiv:1408.5882.

    Raises:
      ValueError: there is no width, or there are more widths than features; a state is requested or given.
    """

    kernel_sizes: tuple[Taps, ...] = (3, 4, 5)

    causal = False

    def __post_init__(self):
        super().__post_init__()
        if not 0 < len(self.kernel_sizes) <= self.width:
            raise ValueError(
                f"mixer.kernel_sizes has {len(self.kernel_sizes)} widths, and model.width={self.width} features are "
                "divided among them: give at least one width, and at most one per feature."
            )

    def setup(self):
        share, more = divmod(self.width, len(self.kernel_sizes))
        self.kernels = [
            self.param(f"kernel_{i}", nn.initializers.lecun_normal(), (k, self.width, share + (i < more)))
            for i, k in enumerate(self.kernel_sizes)
        ]
        self.bias = self.param("bias", nn.initializers.zeros, (self.width,))

    def __call__(self, x_BLD, state=None, *, mask_BL=None, reset_BL=None, deterministic=True):
        self.check(x_BLD, state, mask_BL, reset_BL)
        near = [conv.around(x_BLD.astype(self.dtype), kernel, mask_BL, reset_BL) for kernel in self.kernels]
        y_BLD = jax.nn.relu(jnp.concatenate(near, axis=-1) + self.bias[None, None])
        return masks.fill(y_BLD, mask_BL).astype(x_BLD.dtype), None


Mixer = CNN
