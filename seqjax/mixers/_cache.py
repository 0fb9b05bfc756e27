"""The cache of attention: what the tokens of the current document left behind."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import masks


class KV(NamedTuple):
    """The cache: what the tokens of the current document left behind, W slots per row.

    Slot `position % W` holds the token at that position; `position_BW` is -1 where a slot is empty, which makes
    every mask one comparison. `count_B` is the number of tokens in the document so far. Heads are those of keys.
    """

    k_BWHK: jax.Array
    v_BWHK: jax.Array
    position_BW: jax.Array
    count_B: jax.Array

    @classmethod
    def empty(cls, batch: int, slots: int, heads: int, widths: tuple[int, int], dtype) -> "KV":
        """No token yet; `widths` are those of k and v."""
        k, v = (jnp.zeros((batch, slots, heads, width), dtype) for width in widths)
        return cls(k, v, jnp.full((batch, slots), -1, jnp.int32), jnp.zeros((batch,), jnp.int32))

    def joined(self, k_BLHK, v_BLHK, tokens: masks.Tokens):
        """Keys and values of cache and chunk, side by side, and where they stand."""
        real_BL = jnp.ones(k_BLHK.shape[:2], bool) if tokens.mask_BL is None else tokens.mask_BL
        join = lambda old, new: jnp.concatenate([old, new], axis=1)
        keys = masks.Tokens(
            join(self.position_BW, tokens.position_BL),
            join(jnp.zeros_like(self.position_BW), tokens.segment_BL),
            join(self.position_BW >= 0, real_BL),
        )
        return join(self.k_BWHK, k_BLHK), join(self.v_BWHK, v_BLHK), keys

    def written(self, k_BLHK, v_BLHK, tokens: masks.Tokens, rolls: bool) -> "KV":
        """The cache after a chunk: the newest tokens of the newest document live on.

        A cache that `rolls` forgets the oldest for the newest; another keeps the first and drops what does not fit.
        """
        position_BL, segment_BL, mask_BL = tokens
        W = self.position_BW.shape[1]
        newest_B1 = segment_BL[:, -1:]
        keep_BL = segment_BL == newest_B1 if mask_BL is None else mask_BL & (segment_BL == newest_B1)
        keep_BL &= position_BL > position_BL[:, -1:] - W if rolls else position_BL < W
        slot_BL = jnp.where(keep_BL, position_BL % W, W)  # slot W does not exist
        # Row by row, which needs no exchange where rows are spread over devices.
        put = jax.vmap(lambda old, new, slot_L: old.at[slot_L].set(new, mode="drop"))
        write = lambda old, new: put(old, new.astype(old.dtype), slot_BL)
        return KV(
            write(self.k_BWHK, k_BLHK),
            write(self.v_BWHK, v_BLHK),
            write(jnp.where(newest_B1 > 0, -1, self.position_BW), position_BL),
            position_BL[:, -1] + 1,  # a masked last token repeats the place before it
        )
