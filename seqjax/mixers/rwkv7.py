"""RWKV-7's time mixing."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax.mixers._matrix import MatrixMixer, unit
from seqjax.ops import conv
from seqjax.ops.matrix_state import Tokens
from seqjax.types import Count, Positive

FASTEST = math.exp(-0.5)  # the decay of a token is at least exp(-FASTEST) = 0.545
POWERS = dict(r=0.2, k=0.7, v=0.7, w=0.9, a=0.9, z=0.2)  # how the mean with the token before starts


class RWKV7(MatrixMixer):
    """RWKV-7's time mixing: a matrix per head that decays by channel, and gives up what it holds under a removal key.

        x_i   = x_t + m_i * (x_{t-1} - x_t)          (one m for each of i = r, k, v, w, a, z)
        r, k, v = W x_r, W x_k, W x_v,   z = W_2 sigmoid(W_1 x_z)
        g     = -exp(-1/2) sigmoid(w_0 + W_2 tanh(W_1 x_w)),   a = sigmoid(a_0 + W_2 W_1 x_a)
        kappa = k * xi / |k * xi|,   k' = k * (1 + (a - 1) * alpha)
        S_t   = diag(exp(g)) S_{t-1} - (a * kappa) (S_{t-1}^T kappa)^T + k' v^T
        y_t   = W_o ((norm(S_t^T r) + (r . (rho * k')) v) * z)          (norm: mean and variance of each head)

    Pairs W_2 W_1 have rank `rank`. This mixer leaves out the value of the first layer: in the paper, v of later layers
    is a mean of their own v and that of the first layer, which a mixer does not see. All starts are those of the first
    layer. State: the last x (B, 1, D) and S (B, H, K, K), K = D / H, float32. With
    `apply(..., mutable=["intermediates"])` the weights of values through S (B, H, L, L) are returned as "weights".

    Peng et al. 2025, "RWKV-7 Goose with expressive dynamic state evolution", arXiv:2503.14456.

    Raises:
      ValueError: heads do not divide the width.
    """

    rank: Count = 32
    norm_eps: Positive = 64e-5

    vectors = ("shift", "rho")

    def setup(self):
        D, H, K, R = self.width, self.heads, self.key_width, self.rank
        lecun, tenth = nn.initializers.lecun_normal(), nn.initializers.orthogonal(0.1)
        place_D = jnp.arange(D) / D
        self.shift = self.param("shift", lambda key: jnp.stack([1 - place_D**p for p in POWERS.values()]))
        self.rkv = self.param("rkv", nn.initializers.lecun_normal(batch_axis=0), (3, D, D))
        self.down = self.param("down", nn.initializers.lecun_normal(batch_axis=0), (3, D, R))
        self.decay, self.rate, self.out_gate = (
            self.param(name, init, (R, D)) for name, init in (("decay", tenth), ("rate", tenth), ("gates", lecun))
        )
        self.bias_decay = self.param("bias_decay", lambda key: first_decay(D, K))
        self.bias_rate = self.param("bias_rate", nn.initializers.zeros, (D,))
        self.xi = self.param("xi", nn.initializers.constant(0.71), (D,))
        self.alpha = self.param("alpha", nn.initializers.constant(1.02), (D,))
        self.rho = self.param("rho", nn.initializers.constant(-0.04), (H, K))
        self.scale = self.param("scale", nn.initializers.ones, (D,))
        self.bias = self.param("bias", nn.initializers.zeros, (D,))
        self.out = self.dense(D)

    @nn.nowrap
    def init_state(self, batch: int):
        return jnp.zeros((batch, 1, self.width), jnp.float32), self.zeros(batch)

    def mix(self, x_BLD, state, mask_BL, reset_BL):
        last_B1D, S_BHKV = state
        filter_WD = jnp.stack([jnp.ones(self.width), jnp.zeros(self.width)])
        before_BLD, last_B1D = conv.depthwise(x_BLD, filter_WD, last_B1D, mask_BL, reset_BL)
        mixed = [x_BLD + (before_BLD - x_BLD) * m_D[None, None] for m_D in self.shift]
        r_BLD, k_BLD, v_BLD = (self.gate(x, kernel) for x, kernel in zip(mixed[:3], self.rkv, strict=True))
        w_BLR, a_BLR, z_BLR = (self.gate(x, kernel) for x, kernel in zip(mixed[3:], self.down, strict=True))
        g_BLD = -FASTEST * jax.nn.sigmoid(self.bias_decay[None, None] + self.gate(jnp.tanh(w_BLR), self.decay))
        a_BLD = jax.nn.sigmoid(self.bias_rate[None, None] + self.gate(a_BLR, self.rate))
        kappa_BLHK = unit(self.split(k_BLD * self.xi[None, None]))
        k_BLD = k_BLD * (1 + (a_BLD - 1) * self.alpha[None, None])
        r_BLHK, k_BLHK, v_BLHV, a_BLHK, g_BLHK = map(self.split, (r_BLD, k_BLD, v_BLD, a_BLD, g_BLD))
        # `matrix_state` reads the decayed state, and the paper the state before its decay: hence exp(-g), at most 1.84.
        back = dict(a=-kappa_BLHK * jnp.exp(-g_BLHK), b=a_BLHK * kappa_BLHK)
        tokens_of = lambda v_BLHX: Tokens(r_BLHK, g_BLHK, k_BLHK, v_BLHX, **back)
        y_BLHV, S_BHKV = self.recur(tokens_of, v_BLHV, S_BHKV, mask_BL, reset_BL, lowest=-FASTEST)
        y_BLHV = self.norm(y_BLHV - jnp.mean(y_BLHV, axis=-1, keepdims=True))
        y_BLD = y_BLHV.reshape(x_BLD.shape) * self.scale[None, None] + self.bias[None, None]
        own_BLH1 = jnp.sum(r_BLHK * k_BLHK * self.rho[None, None], axis=-1, keepdims=True)
        y_BLD = y_BLD + (own_BLH1 * v_BLHV).reshape(x_BLD.shape)
        return self.out(y_BLD * self.gate(jax.nn.sigmoid(z_BLR), self.out_gate)), (last_B1D, S_BHKV)


def first_decay(D: int, K: int):
    """w_0: slow to fast over all channels, and again within each head."""
    place_D = jnp.arange(D) / max(D - 1, 1)
    wave_D = 2 * (jnp.arange(D) % K) / max(K - 1, 1) - 1
    return -5.5 + 6 * place_D + 2.5 * wave_D * jnp.abs(wave_D)


Mixer = RWKV7
