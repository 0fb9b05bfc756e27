"""The mLSTM, an LSTM whose cell is a matrix."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax.mixers._layers import read_and_weigh
from seqjax.mixers._matrix import Convolved
from seqjax.ops import mlstm
from seqjax.types import Positive


class MLSTM(Convolved):
    """mLSTM: an LSTM whose cell is a matrix per head, with an exponential input gate and no recurrent weights.

        q, k = W silu(conv(x_t))          (causal, one filter of `conv_width` tokens per feature; 0: no convolution)
        v, o = W_v x_t, sigmoid(W_o x_t),   ~i, ~f = cap(w_i x_t + b_i), cap(w_f x_t + b_f)          (per head)
        i, f = exp(~i), sigmoid(~f)
        C_t  = f C_{t-1} + i k v^T / sqrt(K),   n_t = f n_{t-1} + i k / sqrt(K)          (K = `qk_factor` D / H)
        y_t  = W_y (norm(C_t^T q / max(|n_t . q|, 1)) * o)          (root mean square norm of each head)

    input_gate: "exp", or "sigmoid": i = sigmoid(~i) (Beck et al. 2025, arXiv:2503.14376).
    soft_cap: cap(z) = c tanh(z / c) keeps ~i and ~f within +- c; None: no cap.
    input_bias: the mean of b_i at the start, whose standard deviation is 0.1.

    "xLSTM 7B" (arXiv:2503.13427) has conv_width=0, qk_factor=0.5, soft_cap=15 and input_bias=-10.

    C and n are stored divided by e^m, a running maximum. w_i and w_f start at zero, b_f from 3 to 6 over the heads.
    State: C (B, H, K, D / H), n (B, H, K) and m (B, H), float32, after the last conv_width - 1 inputs of the filter.
    With `apply(..., mutable=["intermediates"])` the weights of values (B, H, L, L) are returned as
    "weights"; they are signed. The rest of the paper's block (the wider projections and the skip) is left out.

    Beck et al. 2024, "xLSTM: extended long short-term memory", arXiv:2405.04517.

    Raises:
      ValueError: heads do not divide the width; conv_width is 1; `qk_factor` gives a K that is not a whole number.
    """

    qk_factor: Positive = 1.0
    input_gate: Literal["exp", "sigmoid"] = "exp"
    soft_cap: Positive | None = None
    input_bias: float = 0.0

    cuttable = True

    def __post_init__(self):
        super().__post_init__()
        if (K := self.qk_factor * self.value_width) != round(K) or K < 1:
            raise ValueError(
                f"mixer.qk_factor={self.qk_factor} makes q and k {K:g} wide, where v of model.width / mixer.heads is "
                f"{self.value_width} wide: choose a factor that gives a whole number of at least 1."
            )

    @property
    def key_width(self) -> int:
        return round(self.qk_factor * self.value_width)

    @property
    def convolved(self) -> int:
        return self.width

    @nn.nowrap
    def zeros(self, batch: int):
        H, K, V = self.heads, self.key_width, self.value_width
        return tuple(jnp.zeros((batch, H, *shape), jnp.float32) for shape in ((K, V), (K,), ()))

    def setup(self):
        D, H = self.width, self.heads
        self.qk, self.vo, self.out = self.dense(2 * H * self.key_width), self.dense(2 * D), self.dense(D)
        self.gates = self.param("gates", nn.initializers.zeros, (D, 2 * H))
        self.bias_i = self.param("bias_i", lambda key: self.input_bias + 0.1 * jax.random.normal(key, (H,)))
        self.bias_f = self.param("bias_f", lambda key: jnp.linspace(3.0, 6.0, H))
        self.scale = self.param("scale", nn.initializers.ones, (self.value_width,))
        self.setup_filter()

    def mix(self, x_BLD, state, mask_BL, reset_BL):
        u_BLD, cache_BRD, (C_BHKV, n_BHK, m_BH) = self.convolve(x_BLD.astype(self.dtype), state, mask_BL, reset_BL)
        q_BLHK, k_BLHK = map(self.split, jnp.split(self.qk(u_BLD), 2, axis=-1))
        v_BLD, o_BLD = jnp.split(self.vo(x_BLD), 2, axis=-1)
        i_BLH, f_BLH = jnp.split(self.gate(x_BLD, self.gates), 2, axis=-1)
        i_BLH, f_BLH = self._capped(i_BLH + self.bias_i[None, None]), self._capped(f_BLH + self.bias_f[None, None])
        i_BLH = i_BLH if self.input_gate == "exp" else jax.nn.log_sigmoid(i_BLH)
        f_BLH = jax.nn.log_sigmoid(f_BLH)
        k_BLHK = k_BLHK * self.key_width**-0.5

        def read(v_BLHV, C_BHKV):
            return mlstm.run(q_BLHK, k_BLHK, v_BLHV, i_BLH, f_BLH, (C_BHKV, n_BHK, m_BH), mask_BL, reset_BL)

        y_BLHV, end = read_and_weigh(self, read, self.split(v_BLD), C_BHKV)
        y_BLD = self.close(y_BLHV, None, self.scale) * jax.nn.sigmoid(o_BLD.astype(jnp.float32))
        return self.out(y_BLD), self.pack(cache_BRD, end)

    def _capped(self, z_BLH):
        return z_BLH if self.soft_cap is None else self.soft_cap * jnp.tanh(z_BLH / self.soft_cap)


Mixer = MLSTM
