"""DeltaNet: linear attention with the delta rule."""

from typing import Annotated

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax.mixers._matrix import Convolved, unit
from seqjax.ops import matrix_state
from seqjax.types import Range

Beta = Annotated[float, Range(above=0, most=2)]


class DeltaNet(Convolved):
    """DeltaNet: a matrix per head that stores a value under each key, and overwrites what stood under it.

        q, k, v = silu(conv(W x_t))          (causal, one filter of `conv_width` tokens per feature; 0: no convolution)
        q, k    = q / |q|, k / |k|,   beta = `beta_max` sigmoid(w x_t)          (per head)
        S_t     = S_{t-1} + beta k (v - S_{t-1}^T k)^T
        y_t     = W_o norm(S_t^T q / sqrt(K))          (K = D / H; root mean square norm of each head)

    I - beta k k^T has the eigenvalue 1 - beta along k. `beta_max`: with 1 it is in (0, 1); with 2 it can be negative,
    so that a token can change the sign of what is stored, which parity and other state tracking need. There the
    convolution can hurt, as it makes the key of a token depend on its neighbours. State: S (B, H, K, K), float32, after
    the last conv_width - 1 inputs of the convolution, (B, conv_width - 1, 3 D). With
    `apply(..., mutable=["intermediates"])` the weights of values (B, H, L, L) are returned as "weights".

    Schlag et al. 2021, arXiv:2102.11174; Yang et al. 2024, "Parallelizing linear transformers with the delta rule over
    sequence length", arXiv:2406.06484; beta_max: Grazzi et al. 2024, arXiv:2411.12537.

    Raises:
      ValueError: heads do not divide the width; conv_width is 1.
    """

    beta_max: Beta = 1.0

    @property
    def convolved(self) -> int:
        return 3 * self.width

    def setup(self):
        self.inputs, self.out = self.dense(3 * self.width), self.dense(self.width)
        self.gates = self.param("gates", nn.initializers.lecun_normal(), (self.width, self.heads))
        self.scale = self.param("scale", nn.initializers.ones, (self.value_width,))
        self.setup_filter()

    def mix(self, x_BLD, state, mask_BL, reset_BL):
        qkv_BLM, cache_BRM, S_BHKV = self.convolve(self.inputs(x_BLD), state, mask_BL, reset_BL)
        q_BLHK, k_BLHK, v_BLHV = map(self.split, jnp.split(qkv_BLM, 3, axis=-1))
        beta_BLH1 = self.beta_max * jax.nn.sigmoid(self.gate(x_BLD, self.gates))[..., None]
        q_BLHK, k_BLHK = unit(q_BLHK) * self.key_width**-0.5, unit(k_BLHK)
        tokens_of = lambda v_BLHX: matrix_state.delta(q_BLHK, k_BLHK, v_BLHX, beta_BLH1, jnp.zeros_like(beta_BLH1))
        y_BLHV, S_BHKV = self.recur(tokens_of, v_BLHV, S_BHKV, mask_BL, reset_BL)
        return self.out(self.close(y_BLHV, None, self.scale)), self.pack(cache_BRM, S_BHKV)


Mixer = DeltaNet
