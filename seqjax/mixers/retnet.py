"""Retention, the mixer of RetNet."""

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from seqjax import masks
from seqjax.mixers._matrix import MatrixMixer
from seqjax.ops import positions
from seqjax.ops.matrix_state import Tokens
from seqjax.types import Count, Positive


class RetNet(MatrixMixer):
    """Retention: linear attention with rotary positions, in which each head forgets at its own fixed rate.

        q, k, v, z = W x_t          (H heads; q and k of width K = D / H, v and z of width V = `expansion` K)
        S_t = gamma_h S_{t-1} + rotary(k) v^T,   gamma_h = 1 - 2^(-5 - h),   h = 0 ... H - 1
        y_t = W_o (norm(S_t^T rotary(q) / sqrt(K)) * silu(z))

    norm is the root mean square norm of each head, without a scale. Positions count the real tokens of a document.
    State: S (B, H, K, V), float32, and the number of tokens of the document, (B,). With
    `apply(..., mutable=["intermediates"])` the weights of values (B, H, L, L) are returned as "weights".

    Sun et al. 2023, "Retentive network: a successor to transformer for large language models", arXiv:2307.08621.

    Raises:
      ValueError: heads do not divide the width, or the width of a head is odd.
    """

    expansion: Count = 2
    rope_theta: Positive = 10_000.0

    cuttable = True

    def __post_init__(self):
        super().__post_init__()
        if self.key_width % 2:
            raise ValueError(
                f"rotary positions rotate pairs of features, but the head width is {self.key_width}, an odd number: "
                "choose another model.width or mixer.heads."
            )

    @property
    def value_width(self) -> int:
        return self.expansion * self.key_width

    def setup(self):
        self.inputs, self.out = self.dense((2 + 2 * self.expansion) * self.width), self.dense(self.width)

    @nn.nowrap
    def init_state(self, batch: int):
        return self.zeros(batch), jnp.zeros((batch,), jnp.int32)

    def mix(self, x_BLD, state, mask_BL, reset_BL):
        (B, L, D), (S_BHKV, count_B) = x_BLD.shape, state
        q_BLD, k_BLD, v_BLM, z_BLM = jnp.split(self.inputs(x_BLD), [D, 2 * D, (2 + self.expansion) * D], axis=-1)
        position_BL = masks.positions((B, L), mask_BL, reset_BL, count_B)
        frequency_K = positions.frequencies(self.key_width, self.rope_theta)
        q_BLHK, k_BLHK = (
            positions.rotary(self.split(a_BLD).astype(jnp.float32), position_BL, frequency_K)
            for a_BLD in (q_BLD, k_BLD)
        )
        q_BLHK = q_BLHK * self.key_width**-0.5
        # In float32: in bfloat16, 1 - 2^-9 is 1.
        g_H = np.log1p(-(2.0 ** -(5 + np.arange(self.heads)))).astype("float32")
        g_BLH1 = jnp.broadcast_to(g_H[None, None, :, None], (B, L, self.heads, 1))
        tokens_of = lambda v_BLHX: Tokens(q_BLHK, g_BLH1, k_BLHK, v_BLHX)
        y_BLHV, S_BHKV = self.recur(tokens_of, self.split(v_BLM), S_BHKV, mask_BL, reset_BL)
        return self.out(self.close(y_BLHV, z_BLM, None)), (S_BHKV, position_BL[:, -1] + 1)


Mixer = RetNet
