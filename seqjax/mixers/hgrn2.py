"""HGRN2: gated linear attention whose key is what its gate forgets."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax.mixers._matrix import MatrixMixer
from seqjax.ops.matrix_state import Tokens
from seqjax.types import Fraction


class HGRN2(MatrixMixer):
    """HGRN2: a recurrent unit whose state is a matrix per head; what its forget gate lets go of makes room for input.

        f   = l + (1 - l) sigmoid(W_f x_t),   q = silu(W_q x_t),   v = W_v x_t          (H heads of width K = D / H)
        S_t = diag(f) S_{t-1} + (1 - f) v^T,   y_t = W_o norm(S_t^T q)          (root mean square norm over all heads)

    l = `lower_bound`. The paper learns l, which grows from layer to layer; here it is an option, and a list of mixers
    gives each layer its own. State: S (B, H, K, K), float32. With `apply(..., mutable=["intermediates"])` the weights
    of values (B, H, L, L) are returned as "weights".

    Qin et al. 2024, "HGRN2: gated linear RNNs with state expansion", arXiv:2404.07904.

    Raises:
      ValueError: heads do not divide the width.
    """

    lower_bound: Fraction = 0.0

    cuttable = True

    def setup(self):
        self.inputs, self.out = self.dense(2 * self.width), self.dense(self.width)
        self.gates = self.param("gates", nn.initializers.lecun_normal(), (self.width, self.width))
        self.scale = self.param("scale", nn.initializers.ones, (self.width,))

    def mix(self, x_BLD, state, mask_BL, reset_BL):
        q_BLHK, v_BLHV = map(self.split, jnp.split(self.inputs(x_BLD), 2, axis=-1))
        f_BLHK = self.split(self.gate(x_BLD, self.gates))
        g_BLHK = jax.nn.log_sigmoid(f_BLHK)
        lowest = math.log(self.lower_bound) if self.lower_bound else None
        if lowest is not None:
            g_BLHK = jnp.logaddexp(lowest, math.log1p(-self.lower_bound) + g_BLHK)
        k_BLHK = (1 - self.lower_bound) * jax.nn.sigmoid(-f_BLHK)  # 1 - f without its rounding error
        q_BLHK = jax.nn.silu(q_BLHK.astype(jnp.float32))
        tokens_of = lambda v_BLHX: Tokens(q_BLHK, g_BLHK, k_BLHK, v_BLHX)
        y_BLHV, end = self.recur(tokens_of, v_BLHV, state, mask_BL, reset_BL, lowest)
        return self.out(self.norm(y_BLHV.reshape(x_BLD.shape)) * self.scale[None, None]), end


Mixer = HGRN2
