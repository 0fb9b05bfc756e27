"""Causal multi-head self-attention."""

import math
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax import masks
from seqjax.mixers._base import Mixer as _Mixer
from seqjax.mixers._base import check_heads
from seqjax.ops import attention, positions
from seqjax.types import Count, Positive, Range


class KV(NamedTuple):
    """The cache: what the tokens of the current document left behind, W slots per row.

    Slot `position % W` holds the token at that position; `position_BW` is -1 where a slot is empty, which makes
    every mask one comparison. `count_B` is the number of tokens in the document so far. Heads are those of keys.
    """

    k_BWHK: jax.Array
    v_BWHK: jax.Array
    position_BW: jax.Array
    count_B: jax.Array


class Attention(_Mixer):
    """Multi-head attention: each token takes a weighted mean of all tokens up to itself.

        q, k, v = W x          (H heads of q, G of k and v, of width K = D / H)
        y_t = W_o sum_{s <= t} softmax_s(q_t . k_s / sqrt(K)) v_s

    `positions`: "rotary" turns q and k, with base `base` and, for texts beyond `trained` tokens, `scaling` by `factor`
      ("linear", "ntk", "yarn": see `seqjax.ops.positions.frequencies`); "learned" (as many as `context`) and
      "sinusoidal" are added to x; "alibi" and "relative" (as in T5, `buckets` up to `farthest`) add a bias to scores,
      at a cost of O(L S) memory; "none".
    State: a cache of `context` slots, made by `init_state`.
    A document that outgrows the cache gives NaN, never a shortened view.

    `kv_heads`: G, which divides H; 1 is multi-query (Shazeer 2019, arXiv:1911.02150), between them grouped-query
      attention (Ainslie et al. 2023, arXiv:2305.13245); None: H.
    `window`: a token sees itself and the window - 1 before it (Beltagy et al. 2020, arXiv:2004.05150). The cache has
      as many slots, forgets the oldest token for the newest, and is never full; `context` is not used.
    `qk_norm`: q and k of each head are divided by their root mean square and scaled by a learned vector, before they
      are rotated (Dehghani et al. 2023, arXiv:2302.05442; with this norm: Gemma Team 2025, arXiv:2503.19786).
    `soft_cap`: c tanh(score / c) in the place of a score (Gemma Team 2024, arXiv:2408.00118).
    `sinks`: a learned logit per head in the denominator of softmax: weights may sum to less than 1 (OpenAI 2025,
      arXiv:2508.10925).
    `gate`: what attention gives times sigmoid(W_g x), one gate per "feature" or per "head", before W_o (Qiu et al.
      2025, arXiv:2505.06708).
    `backend`: as in `seqjax.ops.attention.attend`; "auto" takes the fastest that computes exactly this call.

    Vaswani et al. 2017, arXiv:1706.03762; rotary positions: Su et al. 2021, arXiv:2104.09864.

    Raises:
      ValueError: heads do not divide the width, or kv_heads the heads; more than `context` tokens in one call without
        a window; a backend that cannot serve.
    """

    heads: Count = 4
    kv_heads: Count | None = None
    context: Count = 1024
    window: Count | None = None
    positions: Literal["rotary", "learned", "sinusoidal", "alibi", "relative", "none"] = "rotary"
    base: Positive = 10_000.0
    scaling: Literal["none", "linear", "ntk", "yarn"] = "none"
    factor: Annotated[float, Range(least=1, below=math.inf)] = 1.0
    trained: Count = 1024
    buckets: Annotated[int, Range(least=2)] = 32
    farthest: Count = 128
    qk_norm: bool = False
    soft_cap: Positive | None = None
    sinks: bool = False
    gate: Literal["none", "head", "feature"] = "none"
    backend: attention.Backend = "auto"

    def __post_init__(self):
        super().__post_init__()
        check_heads(self.width, self.heads)
        if self.heads % (self.kv_heads or 1):
            raise ValueError(f"mixer.kv_heads={self.kv_heads} does not divide mixer.heads={self.heads}.")
        if self.positions == "learned" and self.window:
            raise ValueError(
                "mixer.positions='learned' end at mixer.context, a window goes on for ever: choose other positions, or "
                "no window."
            )
        if self.scaling != "none" and self.positions != "rotary":
            raise ValueError(f"mixer.scaling={self.scaling!r} scales rotary positions, not {self.positions!r}.")
        if self.positions == "relative" and self.farthest <= self.buckets // 2:
            raise ValueError(f"mixer.farthest={self.farthest} is within the exact half of {self.buckets} buckets.")

    @property
    def room(self):
        return self.context if self.window is None else None

    @property
    def head_width(self) -> int:
        """K."""
        return self.width // self.heads

    @property
    def groups(self) -> int:
        """G, the number of key heads."""
        return self.kv_heads or self.heads

    def setup(self):
        dense = lambda n: nn.Dense(n, use_bias=False, dtype=self.dtype)
        self.qkv = dense(self.width + 2 * self.groups * self.head_width)
        self.out = dense(self.width)
        if self.qk_norm:
            self.norm_q, self.norm_k = (nn.RMSNorm(dtype=self.dtype) for _ in range(2))
        if self.gate != "none":
            self.gates = dense(self.heads if self.gate == "head" else self.width)
        normal = nn.initializers.normal(0.02)
        if self.positions == "learned":
            self.places_SD = self.param("places", normal, (self.context, self.width))
        if self.positions == "relative":
            self.table_NH = self.param("relative", normal, (self.buckets, self.heads))
        if self.sinks:
            self.sink = self.param("sink", nn.initializers.zeros, (self.heads,))

    @nn.nowrap
    def init_state(self, batch: int):
        B, W = batch, self.window or self.context
        empty = jnp.zeros((B, W, self.groups, self.head_width), self.dtype)
        return KV(empty, empty, jnp.full((B, W), -1, jnp.int32), jnp.zeros((B,), jnp.int32))

    def __call__(self, x_BLD, state=None, *, mask_BL=None, reset_BL=None, deterministic=True):
        self.check(x_BLD, state, mask_BL, reset_BL)
        B, L, D = x_BLD.shape
        if self.room is not None and self.room < L:
            raise ValueError(f"x_BLD has {L} tokens, attention has room for {self.room}: raise mixer.context.")
        start_B = None if state is None else state.count_B
        position_BL = masks.positions((B, L), mask_BL, reset_BL, start_B)
        x_BLD = masks.fill(self._placed(x_BLD, position_BL), mask_BL)
        parts = jnp.split(self.qkv(x_BLD), [D, D + self.groups * self.head_width], axis=-1)
        q_BLHK, k_BLGK, v_BLGK = (a.reshape(B, L, -1, self.head_width) for a in parts)
        if self.qk_norm:
            q_BLHK, k_BLGK = self.norm_q(q_BLHK), self.norm_k(k_BLGK)
        if self.positions == "rotary":
            frequency_K = positions.frequencies(self.head_width, self.base, self.scaling, self.factor, self.trained)
            q_BLHK = positions.rotary(q_BLHK, position_BL, frequency_K)
            k_BLGK = positions.rotary(k_BLGK, position_BL, frequency_K)
        tokens = masks.Tokens(position_BL, masks.segments((B, L), mask_BL, reset_BL), mask_BL)
        if state is None:
            if reset_BL is None:
                tokens = masks.Tokens() if mask_BL is None else tokens._replace(segment_BL=None)
            y_BLHK = self._attend(q_BLHK, k_BLGK, v_BLGK, tokens, tokens)
        else:
            y_BLHK, state = self._cached(state, q_BLHK, k_BLGK, v_BLGK, tokens)
        if self.gate != "none":
            gate_BLG = jax.nn.sigmoid(self.gates(x_BLD).astype(jnp.float32)).astype(y_BLHK.dtype)
            y_BLHK = y_BLHK * gate_BLG.reshape(B, L, self.heads, -1)
        y_BLD = self.out(y_BLHK.reshape(B, L, D))
        return masks.fill(y_BLD, mask_BL).astype(x_BLD.dtype), state

    def _placed(self, x_BLD, position_BL):
        """x with the positions that are added to it."""
        if self.positions == "learned":
            return x_BLD + self.places_SD[position_BL].astype(x_BLD.dtype)
        if self.positions == "sinusoidal":
            return x_BLD + positions.sinusoidal(position_BL, self.width).astype(x_BLD.dtype)
        return x_BLD

    def _bias(self, queries, keys, L: int, S: int):
        """(1 or B, H, L, S), or None."""
        if self.positions not in ("alibi", "relative"):
            return None
        (position_BL, _), (position_BS, _) = queries.filled(L), keys.filled(S)
        back_BLS = position_BL[:, :, None] - position_BS[:, None, :]
        if self.positions == "alibi":
            return -positions.alibi(self.heads)[None, :, None, None] * back_BLS[:, None].astype(jnp.float32)
        bucket_BLS = positions.relative_bucket(back_BLS, self.buckets, self.farthest)
        return jnp.moveaxis(self.table_NH[bucket_BLS], -1, 1)

    def _attend(self, q_BLHK, k_BSGK, v_BSGK, queries, keys):
        rules = dict(causal=True, window=self.window, soft_cap=self.soft_cap, backend=self.backend)
        sinks_H = self.sink if self.sinks else None
        L, S, K = q_BLHK.shape[1], k_BSGK.shape[1], self.head_width
        rules["bias_BHLS"] = self._bias(queries, keys, L, S)
        if self.scaling == "yarn":  # sharper scores over more keys: Peng et al. 2023, section 3.4
            rules["scale"] = K**-0.5 * (0.1 * math.log(self.factor) + 1) ** 2
        return attention.attend(q_BLHK, k_BSGK, v_BSGK, queries=queries, keys=keys, sinks_H=sinks_H, **rules)

    def _cached(self, cache, q_BLHK, k_BLGK, v_BLGK, tokens):
        """Attends to cache and chunk, and writes the chunk into the cache."""
        position_BL, segment_BL, mask_BL = tokens
        B, L = position_BL.shape
        W = cache.position_BW.shape[1]
        real_BL = jnp.ones((B, L), bool) if mask_BL is None else mask_BL
        # What does not fit is never seen, so that its NaN ends with its document.
        fits_BL = None if self.room is None else position_BL < W
        k_BLGK, v_BLGK = masks.fill(k_BLGK, fits_BL), masks.fill(v_BLGK, fits_BL)
        join = lambda old, new: jnp.concatenate([old, new], axis=1)
        keys = masks.Tokens(
            join(cache.position_BW, position_BL),
            join(jnp.zeros_like(cache.position_BW), segment_BL),
            join(cache.position_BW >= 0, real_BL),
        )
        y_BLHK = self._attend(q_BLHK, join(cache.k_BWHK, k_BLGK), join(cache.v_BWHK, v_BLGK), tokens, keys)
        y_BLHK = masks.fill(y_BLHK, fits_BL, jnp.nan)

        # Only the newest tokens of the newest document live on. Everything else goes to slot W, which does not exist.
        newest_B1, last_B1 = segment_BL[:, -1:], position_BL[:, -1:]
        keep_BL = real_BL & (segment_BL == newest_B1)
        keep_BL &= position_BL > last_B1 - W if fits_BL is None else fits_BL
        slot_BL = jnp.where(keep_BL, position_BL % W, W)
        # Row by row, which needs no exchange where rows are spread over devices.
        put = jax.vmap(lambda old, new, slot_L: old.at[slot_L].set(new, mode="drop"))
        write = lambda old, new: put(old, new.astype(old.dtype), slot_BL)
        return y_BLHK, KV(
            write(cache.k_BWHK, k_BLGK),
            write(cache.v_BWHK, v_BLGK),
            write(jnp.where(newest_B1 > 0, -1, cache.position_BW), position_BL),
            position_BL[:, -1] + 1,  # a masked last token repeats the place before it
        )


Mixer = Attention
