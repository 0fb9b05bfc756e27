"""Interactive attention: two sequences read each other."""

import math
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax import masks
from seqjax.mixers._base import check_heads
from seqjax.mixers._memory import MemoryMixer
from seqjax.ops import interactive, scan, scores
from seqjax.types import Count, Range


class Interaction(NamedTuple):
    """Keys and values of the memory, the bias of its scores (float32), its mask, and the sums over x so far."""

    k_BSHK: jax.Array
    v_BSHK: jax.Array
    bias_BHS: jax.Array
    mask_BS: jax.Array
    sums: interactive.Sums


class Interactive(MemoryMixer):
    """Attention in both directions: each token reads the memory m_1 ... m_S, and the memory reads the tokens.

        S_ts = cap tanh(score(x_t, m_s) / cap)
        r_t  = sum_s a_ts m_s,   a_ts = softmax_s S_ts
        u_ts = sum_{t' <= t} exp(S_t's) x_t' / sum_{t' <= t} exp(S_t's)
        c_t  = sum_s a_ts u_ts
        y_t  = W [x_t; r_t; x_t * r_t; x_t * c_t]   ("bidaf")   or   W [x_t; r_t; c_t]   ("coattention")

    `heads`: H; each head has D / H features of x and m, and its own scores.
    `score`: "trilinear": w . [x; m; x * m]; "general": x . W m; "scaled_dot": x . m / sqrt(K).
    `soft_cap`: the cap; it bounds the scores, so that sums of exp need no running maximum.
    `causal`: False lets the memory read every t' of the document, also later ones, as in the papers. Then each call is
      a whole sequence: it starts from `prefill`, returns no state and cannot be continued.

    State: `Interaction`. Collected as intermediates, float32: "weights" a, (B, H, L, S); and "weights_back",
    (B, H, S, L), the weights of the tokens of this call for the memory at the end of their document,
    exp(S_ts) / sum_t' exp(S_t's).

    Co-attention: Xiong et al. 2016, arXiv:1611.01604; Lu et al. 2016, arXiv:1606.00061. BiDAF: Seo et al. 2016,
    arXiv:1611.01603.

    Raises:
      ValueError: heads do not divide the width; `step` is called with causal=False.
    """

    heads: Count = 1
    score: Literal["trilinear", "general", "scaled_dot"] = "trilinear"
    fusion: Literal["bidaf", "coattention"] = "bidaf"
    causal: bool = True
    soft_cap: Annotated[float, Range(above=0, most=30)] = 10.0  # float32 holds the square of a sum of exp(30)

    State = Interaction
    vectors = ("w_x", "w_m", "w_xm")

    def __post_init__(self):
        super().__post_init__()
        check_heads(self.width, self.heads)

    def setup(self):
        D, H, K = self.width, self.heads, self.width // self.heads
        lecun = nn.initializers.lecun_normal()
        if self.score == "trilinear":
            self.w_x, self.w_m, self.w_xm = (
                self.param(name, nn.initializers.normal(K**-0.5), (H, K)) for name in ("w_x", "w_m", "w_xm")
            )
        if self.score == "general":
            self.key = self.param("key", nn.initializers.lecun_normal(batch_axis=0), (H, K, K))
        self.out = self.param("out", lecun, ((4 if self.fusion == "bidaf" else 3) * D, D))

    def prefill(self, memory_BSD, mask_BS=None):
        self.check_memory(memory_BSD, mask_BS)
        B, S, _ = memory_BSD.shape
        m_BSHK = self._split(masks.fill(memory_BSD, mask_BS))
        H, K = m_BSHK.shape[2:]
        k_BSHK, bias_BHS = m_BSHK, jnp.zeros((B, H, S), jnp.float32)
        if self.score == "trilinear":
            k_BSHK = (m_BSHK * self.w_xm[None, None]).astype(self.dtype)
            bias_BHS = jnp.swapaxes(self._dot(m_BSHK, self.w_m), 1, 2)
        elif self.score == "general":
            k_BSHK = scores.general(m_BSHK, self.key)
        elif self.score == "scaled_dot":
            k_BSHK = m_BSHK * jnp.asarray(1 / math.sqrt(K), self.dtype)
        sums = interactive.Sums(jnp.zeros((B, H, S, K), jnp.float32), jnp.zeros((B, H, S), jnp.float32))
        mask_BS = jnp.ones((B, S), bool) if mask_BS is None else mask_BS
        return Interaction(k_BSHK, m_BSHK, bias_BHS, mask_BS, sums)

    def __call__(self, x_BLD, state=None, *, mask_BL=None, reset_BL=None, deterministic=True):
        self.check(x_BLD, state, mask_BL, reset_BL)
        x_BLHK = self._split(masks.fill(x_BLD, mask_BL))
        bias_BLH = self._dot(x_BLHK, self.w_x) if self.score == "trilinear" else jnp.zeros(x_BLHK.shape[:3])
        made_of = interactive.Scores(x_BLHK, state.k_BSHK, bias_BLH, state.bias_BHS)
        flags = dict(real_BS=state.mask_BS, mask_BL=mask_BL, reset_BL=reset_BL, cap=self.soft_cap)
        *read, sums = interactive.attend(made_of, x_BLHK, state.v_BSHK, state.sums, causal=self.causal, **flags)
        if self.is_mutable_collection("intermediates"):
            for name, weight in zip(("weights", "weights_back"), interactive.weights(made_of, **flags), strict=True):
                self.sow("intermediates", name, weight)
        x, (r, c) = x_BLHK.astype(jnp.float32), read
        parts = (x, r, x * r, x * c) if self.fusion == "bidaf" else (x, r, c)
        fused_BLX = jnp.concatenate([a.reshape(x_BLD.shape) for a in parts], axis=-1)
        y_BLD = masks.fill(scan.product(fused_BLX, self.out, self.dtype), mask_BL).astype(x_BLD.dtype)
        return y_BLD, state._replace(sums=sums) if self.causal else None

    def step(self, x_BD, state, *, mask_B=None, reset_B=None):
        if not self.causal:
            raise ValueError(
                "mixer.causal=False reads whole sequences and has no step: set mixer.causal=True to run it "
                "token by token."
            )
        return super().step(x_BD, state, mask_B=mask_B, reset_B=reset_B)

    def _split(self, a_BLD):
        """The features, split into heads, in `dtype`."""
        return a_BLD.astype(self.dtype).reshape(*a_BLD.shape[:2], self.heads, -1)

    def _dot(self, a_BLHK, w_HK):
        """The product of each head with its vector, float32."""
        return jnp.einsum("BLHK,HK->BLH", a_BLHK.astype(jnp.float32), w_HK)


Mixer = Interactive
