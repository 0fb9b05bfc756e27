"""Gated linear attention."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax.mixers._matrix import MatrixMixer
from seqjax.ops.matrix_state import Tokens
from seqjax.types import Count, Positive


class GLA(MatrixMixer):
    """Gated linear attention: its state is a matrix per head, and each token chooses the decay of each of its rows.

        q, k, v, z = W x_t          (H heads; q and k of width K = D / 2H, v and z of width V = D / H)
        g   = logsigmoid(W_2 W_1 x_t + b) / `temperature`          (W_1 of rank `gate_rank`)
        S_t = diag(exp(g)) S_{t-1} + k v^T,   y_t = W_o (norm(S_t^T q / sqrt(K)) * silu(z))

    norm is the root mean square norm of each head. State: S (B, H, K, V), float32. With
    `apply(..., mutable=["intermediates"])` the weights of values (B, H, L, L) are returned as "weights".

    Yang et al. 2023, "Gated linear attention transformers with hardware-efficient training", arXiv:2312.06635.

    Raises:
      ValueError: twice the heads do not divide the width.
    """

    gate_rank: Count = 16
    temperature: Positive = 16.0

    cuttable = True

    def __post_init__(self):
        super().__post_init__()
        if self.width % (2 * self.heads):
            raise ValueError(
                f"mixer.heads={self.heads} leaves odd head widths: q and k have half the width of v, so choose "
                f"mixer.heads such that 2 * heads divides model.width={self.width}."
            )

    @property
    def key_width(self) -> int:
        return self.width // (2 * self.heads)

    def setup(self):
        D, M = self.width, self.heads * self.key_width
        self.inputs, self.out = self.dense(2 * M + 2 * D), self.dense(D)
        self.low = self.dense(self.gate_rank)
        self.gates = self.param("gates", nn.initializers.lecun_normal(), (self.gate_rank, M))
        self.bias = self.param("bias", nn.initializers.zeros, (M,))
        self.scale = self.param("scale", nn.initializers.ones, (self.value_width,))

    def mix(self, x_BLD, state, mask_BL, reset_BL):
        D, M = self.width, self.heads * self.key_width
        q_BLM, k_BLM, v_BLD, z_BLD = jnp.split(self.inputs(x_BLD), [M, 2 * M, 2 * M + D], axis=-1)
        gate_BLM = self.gate(self.low(x_BLD), self.gates) + self.bias[None, None]
        g_BLHK = self.split(jax.nn.log_sigmoid(gate_BLM) / self.temperature)
        q_BLHK, k_BLHK = self.split(q_BLM) * self.key_width**-0.5, self.split(k_BLM)
        tokens_of = lambda v_BLHX: Tokens(q_BLHK, g_BLHK, k_BLHK, v_BLHX)
        y_BLHV, end = self.recur(tokens_of, self.split(v_BLD), state, mask_BL, reset_BL)
        return self.out(self.close(y_BLHV, z_BLD, self.scale)), end


Mixer = GLA
