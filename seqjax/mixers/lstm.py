"""The long short-term memory."""

from typing import Literal

import jax.numpy as jnp
from flax import linen as nn

from seqjax.mixers._recurrent import Recurrent, forget_open
from seqjax.ops import cells, scan
from seqjax.types import Count


class LSTM(Recurrent):
    """LSTM with a forget gate: gates decide what its cell state c stores, keeps and outputs.

        i, f, o = sigmoid(W x_t + U h_{t-1} + b)      (each has its own W, U, b)
        g   = tanh(W_g x_t + U_g h_{t-1} + b_g)
        c_t = f * c_{t-1} + i * g
        h_t = o * tanh(c_t),   y_t = h_t

    The gates are in the order i, f, g, o, as in torch; there is one bias, torch has two. State: (h, c), each (B, D).

    `forget_bias`: the initial bias of f; with 1 the cell mostly keeps c at the start (Jozefowicz et al. 2015, ICML).
    `peepholes`: the gates also read c: + p_i * c_{t-1}, + p_f * c_{t-1}, + p_o * c_t (Gers et al. 2002, JMLR 3).
    `hidden_size`: N cells instead of D; h is projected back to D: h_t = P (o * tanh(c_t)), h (B, D), c (B, N)
      (Sak et al. 2014, arXiv:1402.1128).
    `layer_norm`: the gates use LN(W x_t) + LN(U h_{t-1}) + b, and h_t uses tanh(LN(c_t)), with learned scales and a
      learned shift inside the tanh (Ba et al. 2016, arXiv:1607.06450).
    `backend`: "auto" takes cuDNN's LSTM on one NVIDIA GPU if it computes exactly this call (float32, no options of
      the cell, no resets), else the scan. The choice is logged once.

    Hochreiter and Schmidhuber 1997, Neural Computation 9(8); forget gate: Gers et al. 2000, 12(10).

    Raises:
      ValueError: backend="cudnn", but cuDNN cannot compute these options or this call.
    """

    forget_bias: float = 1.0
    peepholes: bool = False
    hidden_size: Count | None = None
    layer_norm: bool = False
    backend: Literal["auto", "scan", "cudnn"] = "auto"

    gates = 4
    vectors = ("peepholes",)

    def __post_init__(self):
        super().__post_init__()
        inside = ("peepholes", "hidden_size", "layer_norm", "zoneout", "variational_dropout", "recurrent_dropout")
        if self.backend == "cudnn" and (found := [name for name in inside if getattr(self, name)]):
            raise ValueError(
                f"mixer.backend='cudnn' computes the plain LSTM only, without {', '.join(found)}: use 'auto' or 'scan'."
            )

    @property
    def shapes(self):
        return ((self.width,), (self.hidden_size or self.width,))

    @property
    def cell(self):
        return cells.lstm_projected if self.hidden_size else cells.lstm

    @property
    def is_plain(self):
        return not (self.peepholes or self.hidden_size or self.layer_norm)

    def setup(self):
        super().setup()
        (N,) = self.shapes[1]
        if self.peepholes:
            self.p = self.param("peepholes", nn.initializers.zeros, (3, N))
        if self.hidden_size:
            self.projection = self.param("projection", nn.initializers.lecun_normal(), (N, self.width))
        if self.layer_norm:
            ones = nn.initializers.ones
            sizes = {"scale_x": 4 * N, "scale": 4 * N, "scale_c": N}
            self.scales = {name: self.param(name, ones, (size,)) for name, size in sizes.items()}
            self.bias_c = self.param("bias_c", nn.initializers.zeros, (N,))

    def init_bias(self, key, shape, dtype=jnp.float32):
        return forget_open(self.forget_bias, shape, dtype)

    def inputs(self, x_BLD):
        u_BLM = super().inputs(x_BLD)
        if not self.layer_norm:
            return u_BLM
        bias = self.bias[None, None]
        return cells.layer_norm(u_BLM - bias, self.scales["scale_x"][None, None]) + bias

    def weights(self, recurrent):
        return {"recurrent": recurrent} | ({"projection": self.projection} if self.hidden_size else {})

    def rows(self, batch):
        found = {"peepholes": self.p.reshape(-1)} if self.peepholes else {}
        if self.layer_norm:
            found |= {"scale": self.scales["scale"], "scale_c": self.scales["scale_c"], "bias_c": self.bias_c}
        return {name: self.row(parameter, batch) for name, parameter in found.items()}

    def fast(self, x_BLD, recurrent, before, initial, **flags):
        return scan.lstm(x_BLD, self.kernel, recurrent, self.bias, before, initial, backend=self.backend, **flags)


Mixer = LSTM
