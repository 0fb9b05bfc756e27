"""Multi-head attention from one sequence to another."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax import masks
from seqjax.mixers._base import check_heads
from seqjax.mixers._layers import Dense
from seqjax.mixers._memory import MemoryMixer
from seqjax.ops import attention, scores
from seqjax.types import Count


class Memory(NamedTuple):
    """Keys and values of a memory, one per key head, and which tokens of the memory are real (None: all)."""

    k_BSGK: jax.Array
    v_BSGK: jax.Array
    mask_BS: jax.Array | None


class CrossAttention(MemoryMixer):
    """Cross-attention: the output of a token is a weighted mean over all tokens of a memory m.

        q = W_q x,   k, v = W m      (H heads of q, G of k and v, of width K = D / H)
        y_t = W_o sum_s softmax_s(q_t . k_s / sqrt(K)) v_s

    It adds no position encoding: the encoder must put positions into the memory. Tokens of x do not see each other.
    State: keys and values, computed once in `prefill`; no token changes it. The weights (B, H, L, S), float32, are
    stored as `weights` in the collection "intermediates", if the caller collects it.

    `kv_heads`: G, a divisor of H (Shazeer 2019, arXiv:1911.02150; Ainslie et al. 2023, arXiv:2305.13245); None: H.
    `qk_norm`: q and k of each head are divided by their root mean square and scaled by a learned vector (Dehghani et
      al. 2023, arXiv:2302.05442; with this norm: Gemma Team 2025, arXiv:2503.19786).
    `backend`: as in `seqjax.ops.attention.attend`.

    Vaswani et al. 2017, arXiv:1706.03762, section 3.2.3.

    Raises:
      ValueError: heads do not divide the width; kv_heads do not divide heads; the backend cannot compute this call.
    """

    heads: Count = 4
    kv_heads: Count | None = None
    qk_norm: bool = False
    backend: attention.Backend = "auto"

    State = Memory

    def __post_init__(self):
        super().__post_init__()
        check_heads(self.width, self.heads, self.kv_heads)

    def setup(self):
        dense = lambda n: Dense(n, use_bias=False, dtype=self.dtype)
        self.q = dense(self.width)
        self.kv = dense(2 * self.width * (self.kv_heads or self.heads) // self.heads)
        self.out = dense(self.width)
        if self.qk_norm:
            self.norm_q, self.norm_k = (nn.RMSNorm(dtype=self.dtype) for _ in range(2))

    def prefill(self, memory_BSD, mask_BS=None):
        self.check_memory(memory_BSD, mask_BS)
        kv_BSX = self.kv(masks.fill(memory_BSD, mask_BS))
        k_BSGK, v_BSGK = (self._by_head(a) for a in jnp.split(kv_BSX, 2, axis=-1))
        return Memory(self.norm_k(k_BSGK) if self.qk_norm else k_BSGK, v_BSGK, mask_BS)

    def __call__(self, x_BLD, state=None, *, mask_BL=None, reset_BL=None, deterministic=True):
        self.check(x_BLD, state, mask_BL, reset_BL)
        q_BLHK = self._by_head(self.q(masks.fill(x_BLD, mask_BL)))
        if self.qk_norm:
            q_BLHK = self.norm_q(q_BLHK)
        sight = dict(queries=masks.Places(mask_BL=mask_BL), keys=masks.Places(mask_BL=state.mask_BS))
        if self.is_mutable_collection("intermediates"):
            score_BHLS = scores.dot(q_BLHK * q_BLHK.shape[-1] ** -0.5, state.k_BSGK)
            self.sow("intermediates", "weights", attention.weights(score_BHLS, **sight))
        y_BLHK = attention.attend(q_BLHK, state.k_BSGK, state.v_BSGK, **sight, backend=self.backend)
        y_BLD = self.out(y_BLHK.reshape(x_BLD.shape))
        return masks.fill(y_BLD, mask_BL).astype(x_BLD.dtype), state

    def _by_head(self, a_BLX):
        return a_BLX.reshape(*a_BLX.shape[:2], -1, self.width // self.heads)


Mixer = CrossAttention
