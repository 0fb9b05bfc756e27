"""The LSTM over frames."""

import jax.numpy as jnp
from flax import linen as nn

from seqjax.mixers._recurrent import Recurrent, forget_open
from seqjax.ops import cells, scan
from seqjax.types import Count


class ConvLSTM(Recurrent):
    """Convolutional LSTM: each token is a frame, and convolutions over the frame replace the products of the LSTM.

        i, f, o = sigmoid(W * X_t + U * H_{t-1} + b)   (* is convolution; each has its own W, U, b)
        G   = tanh(W_g * X_t + U_g * H_{t-1} + b_g)
        C_t = f C_{t-1} + i G,   H_t = o tanh(C_t),   Y_t = H_t

    A frame is (height, columns, C) with height * columns * C = D, flattened in this order. Frames are padded with
    zeros, so that they keep their size. The gates are in the order i, f, g, o. State: (H, C), each
    (B, height, columns, C).

    Shi et al. 2015, "Convolutional LSTM network", arXiv:1506.04214, without its peepholes.

    Raises:
      ValueError: height * columns does not divide the width.
    """

    height: Count = 2
    columns: Count = 2
    kernel_size: Count = 3
    forget_bias: float = 1.0

    gates = 4
    vectors = ("initial_0", "initial_1")
    is_plain = False
    cell = staticmethod(cells.lstm)

    def __post_init__(self):
        super().__post_init__()
        if self.width % (self.height * self.columns):
            raise ValueError(
                f"frames of mixer.height={self.height} x mixer.columns={self.columns} do not divide "
                f"model.width={self.width}: choose a width that is a multiple of their product."
            )

    @property
    def channels(self) -> int:
        """The number of channels of a frame."""
        return self.width // (self.height * self.columns)

    @property
    def shapes(self):
        return ((self.height, self.columns, self.channels),) * 2

    def setup(self):
        C, k = self.channels, self.kernel_size
        self.kernel = self.param("kernel", nn.initializers.lecun_normal(), (k, k, C, 4 * C))
        self.recurrent = self.param("recurrent", self.init_recurrent, (k, k, C, 4 * C))
        self.bias = self.param("bias", self.init_bias, (4 * C,))
        self.setup_start()

    def init_bias(self, key, shape, dtype=jnp.float32):
        return forget_open(self.forget_bias, shape, dtype)

    def inputs(self, x_BLD):
        B, L, _ = x_BLD.shape
        frames = x_BLD.reshape(B * L, *self.shapes[0])
        u = scan.product(frames, self.kernel, self.dtype) + self.bias[None, None, None]
        return u.reshape(B, L, *u.shape[1:])


Mixer = ConvLSTM
