"""Multi-head self-attention."""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax import masks
from seqjax.mixers._base import check_heads
from seqjax.mixers._cache import KV
from seqjax.mixers._layers import Dense
from seqjax.mixers._positions import Positioned
from seqjax.ops import attention, ring, scores
from seqjax.types import Count, Natural, Positive


class Attention(Positioned):
    """Multi-head attention: the output of a token is a weighted mean over all tokens up to itself.

        q, k, v = W x          (H heads of q, G of k and v, of width K = D / H)
        y_t = W_o sum_{s <= t} softmax_s(q_t . k_s / sqrt(K)) v_s

    State: a cache of `max_length` slots, made by `init_state`. If a document is longer than the cache, the outputs
    are NaN; no token is silently forgotten. `apply(..., mutable=["intermediates"])` returns the weights (B, H, L, S)
    under "weights"; the S axis holds the slots of the cache, if there is one, and then the tokens.

    Heads. `kv_heads`: G, a divisor of H. 1 is multi-query attention (Shazeer 2019, arXiv:1911.02150), 1 < G < H is
      grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245); None: H. `qk_norm`: q and k of each head are
      divided by their root mean square and scaled by a learned vector, before they are rotated (Dehghani et al. 2023,
      arXiv:2302.05442; with this norm: Gemma Team 2025, arXiv:2503.19786). `output_gate`: the output of attention is
      multiplied by sigmoid(W_g x) before W_o, one gate per "feature" or per "head" (Qiu et al. 2025, arXiv:2505.06708).
    Which tokens see each other. `causal`: no token sees a later one; False: each token sees all, and there is no state.
      `prefix`: the first `prefix` tokens of a document all see each other (Raffel et al. 2019, arXiv:1910.10683). They
      must come in one call, else the outputs are NaN. The loss must not include them: set task.prompt_length.
      `window`: a token sees itself and the window - 1 tokens before it (also after it if not causal; Beltagy et al.
      2020, arXiv:2004.05150), `dilation` apart. The cache then holds only the tokens that a window reaches, and the
      newest token replaces the oldest, so the cache is never full; `max_length` is not used.
    Positions. See `Positioned`.
    Scores. `score`: "scaled_dot"; "dot"; "general", q W_h k; "cosine", times a learned temperature per head that starts
      at 10; "additive", v_h . tanh(q + k); "location", W_h x, one score for each of `max_length` positions; it does not
      depend on the tokens there and has no q and k (Tay et al. 2020, arXiv:2005.00743). See `seqjax.ops.scores`.
      `soft_cap`: c tanh(score / c) replaces a score (Gemma Team 2024, arXiv:2408.00118). `weights`: the function from
      scores to weights, see `seqjax.ops.weights`; "sigmoid" has a learned bias per head that starts at
      -log(max_length), because its weights do not sum to one. `sinks`: a learned logit per head in the denominator of
      softmax (OpenAI 2025, arXiv:2508.10925).
    `backend`: as in `seqjax.ops.attention.attend`; "auto" takes the fastest one that computes exactly this call. The
      scores "additive" and "location", and weights other than softmax, hold all L x S scores in memory.

    Vaswani et al. 2017, arXiv:1706.03762; rotary positions: Su et al. 2021, arXiv:2104.09864.

    Raises:
      ValueError: heads do not divide the width; kv_heads do not divide heads; options exclude each other; one call has
        more than `max_length` tokens without a window; the backend cannot compute this call; a cache is given while
        sequences are split over devices.
    """

    kv_heads: Count | None = None
    prefix: Natural = 0
    window: Count | None = None
    dilation: Count = 1
    score: Literal["scaled_dot", "dot", "general", "cosine", "additive", "location"] = "scaled_dot"
    weights: attention.Weights = "softmax"
    qk_norm: bool = False
    soft_cap: Positive | None = None
    sinks: bool = False
    output_gate: Literal["none", "head", "feature"] = "none"
    backend: attention.Backend = "auto"

    vectors = (*Positioned.vectors, "direction")
    blocks = None  # the pattern of block-sparse attention: `seqjax.mixers.sparse_attention`

    def __post_init__(self):
        super().__post_init__()
        check_heads(self.width, self.heads, self.kv_heads)
        at_odds = [
            (
                self.positions == "learned" and self.window,
                "mixer.positions='learned' end at mixer.max_length, but mixer.window allows longer documents: choose "
                "other positions, or no window",
            ),
            (
                self.prefix and (not self.causal or self.window),
                f"mixer.prefix={self.prefix} needs mixer.causal=True and no mixer.window: change one of them",
            ),
            (
                self.score == "location" and (self.positions == "rotary" or self.qk_norm),
                "mixer.score='location' has no q and k: choose other mixer.positions than 'rotary', and no qk_norm",
            ),
            (
                self.sinks and self.weights != "softmax",
                f"mixer.sinks needs mixer.weights='softmax', got {self.weights!r}: remove one of them",
            ),
            (
                self._held and self.backend not in ("auto", "reference"),
                f"mixer.backend={self.backend!r} computes products of q and k, but mixer.score={self.score!r} is not "
                "such a product: set mixer.backend='auto'",
            ),
        ]
        for applies, sentence in at_odds:
            if applies:
                raise ValueError(f"{sentence}.")

    @property
    def capacity(self):
        return self.max_length if self.window is None else None

    @property
    def cuttable(self):
        return self.weights == "softmax" and not self._held and self.backend in ("auto", "blockwise")

    @property
    def groups(self) -> int:
        """G, the number of key heads."""
        return self.kv_heads or self.heads

    @property
    def _held(self) -> bool:
        """Whether scores are not products of q and k; all L x S of them are then held in memory."""
        return self.score in ("additive", "location")

    @property
    def _key_width(self) -> int:
        return 0 if self.score == "location" else self.head_width

    def setup(self):
        super().setup()
        H, K = self.heads, self.head_width
        dense = lambda n: Dense(n, use_bias=False, dtype=self.dtype)
        self.qkv = dense((H + self.groups) * self._key_width + self.groups * K)
        self.out = dense(self.width)
        if self.qk_norm:
            self.norm_q, self.norm_k = (nn.RMSNorm(dtype=self.dtype) for _ in range(2))
        if self.output_gate != "none":
            self.gates = dense(H if self.output_gate == "head" else self.width)
        init = nn.initializers
        if self.sinks:
            self.sink = self.param("sink", init.zeros, (H,))
        if self.score == "general":
            self.bilinear_HKK = self.param(
                "bilinear", lambda _, shape: jnp.tile(jnp.eye(K) * K**-0.5, shape), (H, 1, 1)
            )
        if self.score == "cosine":
            self.temperature_H = self.param("log_temperature", init.constant(math.log(10)), (H,))
        if self.score == "additive":
            self.direction_HK = self.param("direction", init.normal(K**-0.5), (H, K))
        if self.score == "location":
            self.location = dense(H * self.max_length)
        if self.weights == "sigmoid":
            self.bias_H = self.param("bias", init.constant(-math.log(self.max_length)), (H,))

    @nn.nowrap
    def init_state(self, batch: int):
        if not self.causal:
            raise ValueError(
                "bidirectional attention sees later tokens and has no state: set mixer.causal=True to run it step by "
                "step."
            )
        slots = self.max_length if self.window is None else (self.window - 1) * self.dilation + 1
        return KV.empty(batch, slots, self.groups, (self._key_width, self.head_width), self.dtype)

    def __call__(self, x_BLD, state=None, *, mask_BL=None, reset_BL=None, deterministic=True):
        self.check(x_BLD, state, mask_BL, reset_BL)
        B, L, D = x_BLD.shape
        if self.capacity is not None and self.capacity < L:
            raise ValueError(
                f"x_BLD has {L} tokens, mixer.max_length={self.capacity} is smaller: raise mixer.max_length to {L}."
            )
        if ring.devices(L) > 1 and (state is not None or self._held):
            what = f"mixer.score={self.score!r}" if self._held else "a cache"
            raise ValueError(f"attention with {what} cannot be split over devices: set parallel.sequence=1.")
        start_B = None if state is None else state.count_B
        if start_B is not None and self.prefix:  # a prefix in several calls gets positions beyond the cache: NaN
            start_B = jnp.where((start_B > 0) & (start_B < self.prefix), start_B + self.max_length, start_B)
        position_BL = masks.positions((B, L), mask_BL, reset_BL, start_B)
        x_BLD = masks.fill(self.placed(x_BLD, position_BL), mask_BL)
        q_BLHK, k_BLGK, v_BLGK = self._projected(x_BLD, position_BL)
        tokens = masks.Places(position_BL, masks.segments((B, L), mask_BL, reset_BL), mask_BL)
        if state is None:
            if reset_BL is None:
                tokens = masks.Places() if mask_BL is None else tokens._replace(segment_BL=None)
            y_BLHK = self._attend(x_BLD, q_BLHK, k_BLGK, v_BLGK, tokens, tokens)
        else:
            # Tokens that do not fit are never seen, so that no NaN reaches the next document.
            fits_BL = None if self.capacity is None else position_BL < self.max_length
            k_BLGK, v_BLGK = masks.fill(k_BLGK, fits_BL), masks.fill(v_BLGK, fits_BL)
            keys, look_back = state.keys(tokens), self._attend if L > 1 or self._held else self._decode
            y_BLHK = look_back(x_BLD, q_BLHK, k_BLGK, v_BLGK, keys, tokens, state)
            state = state.written(k_BLGK, v_BLGK, tokens, self.capacity is None, y_BLHK)
            y_BLHK = masks.fill(y_BLHK, fits_BL, jnp.nan)
        if self.output_gate != "none":
            gate_BLG = jax.nn.sigmoid(self.gates(x_BLD).astype(jnp.float32)).astype(y_BLHK.dtype)
            y_BLHK = y_BLHK * gate_BLG.reshape(B, L, self.heads, -1)
        y_BLD = self.out(y_BLHK.reshape(B, L, D))
        return masks.fill(y_BLD, mask_BL).astype(x_BLD.dtype), state

    def _projected(self, x_BLD, position_BL):
        """q, k and v, after norm and rotation."""
        (B, L, _), E = x_BLD.shape, self._key_width
        parts = jnp.split(self.qkv(x_BLD), [self.heads * E, (self.heads + self.groups) * E], axis=-1)
        heads = (self.heads, self.groups, self.groups)
        q_BLHK, k_BLGK, v_BLGK = (a.reshape(B, L, h, -1) for a, h in zip(parts, heads, strict=True))
        if self.qk_norm:
            q_BLHK, k_BLGK = self.norm_q(q_BLHK), self.norm_k(k_BLGK)
        q_BLHK, k_BLGK = self.turned(q_BLHK, position_BL), self.turned(k_BLGK, position_BL)
        if self.score == "general":
            q_BLHK = scores.general(q_BLHK, self.bilinear_HKK)
        if self.score == "cosine":
            hot_1H1 = jnp.exp(self.temperature_H)[None, None, :, None]
            q_BLHK, k_BLGK = (scores.unit(q_BLHK) * hot_1H1).astype(q_BLHK.dtype), scores.unit(k_BLGK)
        return q_BLHK, k_BLGK, v_BLGK

    @property
    def _scale(self) -> float:
        return (self.head_width**-0.5 if self.score == "scaled_dot" else 1.0) * self.sharper**2

    def _rules(self, queries, keys) -> dict:
        """The arguments for `seqjax.ops.attention`: which tokens see each other, and how scores become weights."""
        look = dict(queries=queries, keys=keys, soft_cap=self.soft_cap, relative=self.relative(), weights=self.weights)
        look |= dict(causal=self.causal, window=self.window, dilation=self.dilation, prefix=self.prefix)
        bias_BHLS = self.bias_H[None, :, None, None] if self.weights == "sigmoid" else None
        return look | dict(blocks=self.blocks, sinks_H=self.sink if self.sinks else None, bias_BHLS=bias_BHLS)

    def _attend(self, x_BLD, q_BLHK, k_BSGK, v_BSGK, keys, queries, cache: KV | None = None):
        if cache is not None:
            k_BSGK, v_BSGK = cache.joined(k_BSGK, v_BSGK)
        look = self._rules(queries, keys)
        if self._held:
            score_BHLS = self._score(x_BLD, q_BLHK, k_BSGK, keys) * self._scale
            self._show(lambda: score_BHLS, look)
            return attention.weigh(score_BHLS, v_BSGK, **look)
        self._show(lambda: scores.dot(q_BLHK, k_BSGK) * self._scale, look)
        return attention.attend(q_BLHK, k_BSGK, v_BSGK, scale=self._scale, backend=self.backend, **look)

    def _decode(self, x_BLD, q_BLHK, k_BLGK, v_BLGK, keys, queries, cache: KV):
        """`_attend` without a copy of the cache."""
        look = self._rules(queries, keys)
        self._show(lambda: scores.dot(q_BLHK, cache.joined(k_BLGK, v_BLGK)[0]) * self._scale, look)
        cached = cache.k_BHKW, cache.v_BHKW
        return attention.decode(q_BLHK, cached, (k_BLGK, v_BLGK), scale=self._scale, **look)

    def _show(self, score, look) -> None:
        """Sows the weights of the scores `score()` if the caller collects intermediates."""
        if self.is_mutable_collection("intermediates"):
            self.sow("intermediates", "weights", attention.weights(score(), **look))

    def _score(self, x_BLD, q_BLHK, k_BSGK, keys):
        """The scores that are not products of q and k, (B, H, L, S)."""
        if self.score == "additive":
            k_BSHK = jnp.repeat(k_BSGK, self.heads // self.groups, axis=2)
            return scores.additive(q_BLHK, k_BSHK, self.direction_HK)
        B, L, _ = x_BLD.shape
        position_BS, _ = keys.filled(k_BSGK.shape[1])
        return scores.location(self.location(x_BLD).reshape(B, L, self.heads, self.max_length), position_BS)


Mixer = Attention
