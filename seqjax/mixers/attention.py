"""Causal multi-head self-attention."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax import masks
from seqjax.mixers._base import Mixer as _Mixer
from seqjax.ops import attention, positions
from seqjax.types import Count, Positive


class KV(NamedTuple):
    """The cache: what the tokens of the current document left behind, W slots per row.

    Slot `position % W` holds the token at that position; `position_BW` is -1 where a slot is empty, which makes
    every mask one comparison. `count_B` is the number of tokens in the document so far.
    """

    k_BWHK: jax.Array
    v_BWHK: jax.Array
    position_BW: jax.Array
    count_B: jax.Array


class Attention(_Mixer):
    """Multi-head attention: each token takes a weighted mean of all tokens up to itself.

        q, k, v = W x          (each H heads of width K = D / H)
        y_t = W_o sum_{s <= t} softmax_s(q_t . k_s / sqrt(K)) v_s

    Positions enter by rotation of q and k. State: a cache of `context` slots, made by `init_state`.
    A document that outgrows the cache gives NaN, never a shortened view.

    Vaswani et al. 2017, arXiv:1706.03762; rotary positions: Su et al. 2021, arXiv:2104.09864.

    Raises:
      ValueError: heads do not divide the width; more than `context` tokens in one call.
    """

    heads: Count = 4
    context: Count = 1024
    positions: Literal["rotary", "none"] = "rotary"
    base: Positive = 10_000.0

    def __post_init__(self):
        super().__post_init__()
        if self.width % self.heads:
            raise ValueError(f"mixer.heads={self.heads} does not divide model.width={self.width}.")

    @property
    def room(self):
        return self.context

    def setup(self):
        dense = lambda n: nn.Dense(n, use_bias=False, dtype=self.dtype)
        self.qkv = dense(3 * self.width)
        self.out = dense(self.width)

    @nn.nowrap
    def init_state(self, batch: int):
        B, W, H = batch, self.context, self.heads
        empty = jnp.zeros((B, W, H, self.width // H), self.dtype)
        return KV(empty, empty, jnp.full((B, W), -1, jnp.int32), jnp.zeros((B,), jnp.int32))

    def __call__(self, x_BLD, state=None, *, mask_BL=None, reset_BL=None, deterministic=True):
        self.check(x_BLD, state, mask_BL, reset_BL)
        B, L, _ = x_BLD.shape
        if self.context < L:
            raise ValueError(f"x_BLD has {L} tokens, attention has room for {self.context}: raise mixer.context.")
        x_BLD = masks.fill(x_BLD, mask_BL)
        heads = lambda a_BLD: a_BLD.reshape(B, L, self.heads, -1)
        q_BLHK, k_BLHK, v_BLHK = map(heads, jnp.split(self.qkv(x_BLD), 3, axis=-1))
        start_B = None if state is None else state.count_B
        position_BL = masks.positions((B, L), mask_BL, reset_BL, start_B)
        segment_BL = masks.segments((B, L), mask_BL, reset_BL)
        if self.positions == "rotary":
            frequency_K = positions.frequencies(q_BLHK.shape[-1], self.base)
            q_BLHK = positions.rotary(q_BLHK, position_BL, frequency_K)
            k_BLHK = positions.rotary(k_BLHK, position_BL, frequency_K)
        if state is None:
            allowed_BLS = _allowed(position_BL, segment_BL, mask_BL, reset_BL)
            y_BLHK = attention.attend(q_BLHK, k_BLHK, v_BLHK, allowed_BLS)
        else:
            y_BLHK, state = self._cached(state, q_BLHK, k_BLHK, v_BLHK, position_BL, segment_BL, mask_BL)
        y_BLD = self.out(y_BLHK.reshape(B, L, self.width))
        return masks.fill(y_BLD, mask_BL).astype(x_BLD.dtype), state

    def _cached(self, cache, q_BLHK, k_BLHK, v_BLHK, position_BL, segment_BL, mask_BL):
        """Attends to cache and chunk, and writes the chunk into the cache."""
        B, L = position_BL.shape
        # What does not fit is never seen, so that its NaN ends with its document.
        fits_BL = position_BL < self.context
        k_BLHK, v_BLHK = masks.fill(k_BLHK, fits_BL), masks.fill(v_BLHK, fits_BL)
        real_BL = jnp.ones((B, L), bool) if mask_BL is None else mask_BL
        join = lambda old, new: jnp.concatenate([old, new], axis=1)
        allowed_BLS = masks.causal(
            position_BL,
            join(cache.position_BW, position_BL),
            segment_BL,
            join(jnp.zeros_like(cache.position_BW), segment_BL),
            join(cache.position_BW >= 0, real_BL),
        )
        y_BLHK = attention.attend(q_BLHK, join(cache.k_BWHK, k_BLHK), join(cache.v_BWHK, v_BLHK), allowed_BLS)
        y_BLHK = masks.fill(y_BLHK, fits_BL, jnp.nan)

        # Only the newest document lives on. Everything else goes to slot W, which does not exist.
        newest_B1 = segment_BL[:, -1:]
        keep_BL = real_BL & fits_BL & (segment_BL == newest_B1)
        slot_BL = jnp.where(keep_BL, position_BL % self.context, self.context)
        row_B1 = jnp.arange(B)[:, None]
        write = lambda old, new: old.at[row_B1, slot_BL].set(new.astype(old.dtype), mode="drop")
        return y_BLHK, KV(
            write(cache.k_BWHK, k_BLHK),
            write(cache.v_BWHK, v_BLHK),
            write(jnp.where(newest_B1 > 0, -1, cache.position_BW), position_BL),
            position_BL[:, -1] + 1,  # a masked last token repeats the place before it
        )


def _allowed(position_BL, segment_BL, mask_BL, reset_BL):
    """Who may see whom in a fresh sequence; without mask and reset one triangle serves all rows."""
    rows = slice(None) if mask_BL is not None or reset_BL is not None else slice(0, 1)
    mask_BS = None if mask_BL is None else mask_BL[rows]
    return masks.causal(position_BL[rows], position_BL[rows], segment_BL[rows], segment_BL[rows], mask_BS)


Mixer = Attention
