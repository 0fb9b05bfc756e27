"""Gated DeltaNet: the delta rule on a state that decays."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax.mixers import _steps
from seqjax.mixers._matrix import Convolved, unit
from seqjax.mixers.delta_net import Beta
from seqjax.ops import matrix_state
from seqjax.types import Count


class GatedDeltaNet(Convolved):
    """Gated DeltaNet: a matrix per head that decays as the token chooses, and overwrites what stands under its key.

        q, k, v = silu(conv(W x_t))          (causal, one filter of `conv_width` tokens per feature; 0: no convolution)
        q, k    = q / |q|, k / |k|,   beta = `beta_max` sigmoid(w_b x_t)
        g       = -exp(rate) softplus(w_a x_t + b)          (one number per head)
        S       = exp(g) S_{t-1},   S_t = S + beta k (v - S^T k)^T
        y_t     = W_o (norm(S_t^T q / sqrt(K)) * silu(W_z x_t))          (root mean square norm of each head)

    q and k have width K = D / H, v has V = `expansion` K. `beta_max`: 2 allows negative eigenvalues, as in DeltaNet.
    exp(rate) starts uniform in [1, 16], softplus(b) log-uniform in [0.001, 0.1]: for state tracking a smaller rate may
    be needed, as decay fades the count. State: S (B, H, K, V), float32, after the last conv_width - 1 inputs of the
    convolution. With `apply(..., mutable=["intermediates"])` the weights of values (B, H, L, L) are returned as
    "weights".

    Yang et al. 2024, "Gated delta networks: improving Mamba2 with delta rule", arXiv:2412.06464. The reference draws
    exp(rate) from [0, 16].

    Raises:
      ValueError: heads do not divide the width; conv_width is 1.
    """

    expansion: Count = 2
    beta_max: Beta = 1.0

    @property
    def value_width(self) -> int:
        return self.expansion * self.key_width

    @property
    def convolved(self) -> int:
        return (2 + self.expansion) * self.width

    def setup(self):
        D, H = self.width, self.heads
        self.inputs, self.out = self.dense(self.convolved + self.expansion * D), self.dense(D)
        self.gates = self.param("gates", nn.initializers.lecun_normal(), (D, 2 * H))
        self.rate = self.param("rate", _steps.init_rate, (H,))
        self.bias_dt = self.param("bias_dt", _steps.init, (H,))
        self.scale = self.param("scale", nn.initializers.ones, (self.value_width,))
        self.setup_filter()

    def mix(self, x_BLD, state, mask_BL, reset_BL):
        qkv_BLM, z_BLM = jnp.split(self.inputs(x_BLD), [self.convolved], axis=-1)
        qkv_BLM, cache_BRM, S_BHKV = self.convolve(qkv_BLM, state, mask_BL, reset_BL)
        q_BLHK, k_BLHK, v_BLHV = map(self.split, jnp.split(qkv_BLM, [self.width, 2 * self.width], axis=-1))
        beta_BLH, dt_BLH = jnp.split(self.gate(x_BLD, self.gates), 2, axis=-1)
        beta_BLH1 = self.beta_max * jax.nn.sigmoid(beta_BLH)[..., None]
        g_BLH1 = _steps.decay(self.rate, dt_BLH, self.bias_dt)[..., None]
        q_BLHK, k_BLHK = unit(q_BLHK) * self.key_width**-0.5, unit(k_BLHK)
        tokens_of = lambda v_BLHX: matrix_state.delta(q_BLHK, k_BLHK, v_BLHX, beta_BLH1, g_BLH1)
        y_BLHV, S_BHKV = self.recur(tokens_of, v_BLHV, S_BHKV, mask_BL, reset_BL)
        return self.out(self.close(y_BLHV, z_BLM, self.scale)), self.pack(cache_BRM, S_BHKV)


Mixer = GatedDeltaNet
