"""The real-gated linear recurrent unit."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax.mixers._base import check_heads
from seqjax.mixers._linear import LinearMixer
from seqjax.ops import dense, linear
from seqjax.types import Count

C = 8.0  # the decay is between sigmoid(-Lambda)^C, at r = 1, and 1, at r = 0


class RGLRU(LinearMixer):
    """RG-LRU: a real diagonal recurrence; gates that depend on the token control its decay and its input.

        r   = sigmoid(W_a x_t + b_a),   i = sigmoid(W_x x_t + b_x)        (W_a, W_x: `heads` blocks on the diagonal)
        a   = exp(-8 softplus(Lambda) r)
        h_t = a * h_{t-1} + sqrt(1 - a^2) * (i * x_t),   y_t = h_t

    Lambda starts so that a is uniform in [0.9, 0.999] at r = 1. State: h (B, D), float32.

    De et al. 2024, "Griffin: mixing gated linear recurrences with local attention", arXiv:2402.19427. This mixer is
    only the recurrence. It leaves out the rest of Griffin's recurrent block: the projections before and after, the
    causal convolution of width 4 before the recurrence, and the GeLU branch that multiplies the output.

    Raises:
      ValueError: heads do not divide the width.
    """

    heads: Count = 4

    cuttable = True
    vectors = ("bias",)

    def __post_init__(self):
        super().__post_init__()
        check_heads(self.width, self.heads)

    def setup(self):
        H, K = self.heads, self.width // self.heads
        # Per head: the recurrence gate r on the left, the input gate i on the right.
        self.kernel = self.param("kernel", nn.initializers.lecun_normal(batch_axis=0), (H, K, 2 * K))
        self.bias = self.param("bias", nn.initializers.zeros, (H, 2 * K))
        self.decay = self.param("decay", _init_decay, (self.width,))

    @nn.nowrap
    def init_state(self, batch: int):
        return jnp.zeros((batch, self.width), jnp.float32)

    def mix(self, x_BLD, state, mask_BL, reset_BL):
        r_BLN, i_BLN = self._gates(x_BLD)
        log_a_BLN = -C * jax.nn.softplus(self.decay)[None, None] * r_BLN
        # A closed gate gives a = 1, and sqrt has an infinite slope at 1 - a^2 = 0: keep its argument above 0.
        rest_BLN = jnp.sqrt(jnp.maximum(-jnp.expm1(2 * log_a_BLN), jnp.finfo(jnp.float32).tiny))
        return linear.diagonal(jnp.exp(log_a_BLN), rest_BLN * i_BLN * x_BLD, state, mask_BL, reset_BL)

    def _gates(self, x_BLD):
        """r and i, (B, L, D) each, in float32."""
        B, L, D = x_BLD.shape
        x_BLHK = x_BLD.reshape(B, L, self.heads, -1)
        z_BLHM = dense.einsum("BLHK,HKM->BLHM", x_BLHK, self.kernel, self.dtype, out=jnp.float32)
        gates_BLHM = jax.nn.sigmoid(z_BLHM + self.bias[None, None])
        return (gate.reshape(B, L, D) for gate in jnp.split(gates_BLHM, 2, axis=-1))


def _init_decay(key, shape):
    full = jax.random.uniform(key, shape, minval=0.9, maxval=0.999)
    return jnp.log(jnp.expm1(-jnp.log(full) / C))  # the inverse of softplus


Mixer = RGLRU
