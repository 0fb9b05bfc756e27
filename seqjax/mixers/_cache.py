"""The attention cache: keys and values of the earlier tokens of the current document."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import masks


class KV(NamedTuple):
    """Keys and values of the document so far, W slots per row.

    Slot `position % W` holds the token at that position. An empty slot has `position_BW` -1 and holds zeros. `count_B`
    is the number of tokens in the document so far. The heads are the key heads. Slots are the last axis, because one
    query reads memory fastest in this layout.
    """

    k_BHKW: jax.Array
    v_BHKW: jax.Array
    position_BW: jax.Array
    count_B: jax.Array

    @classmethod
    def empty(cls, batch: int, slots: int, heads: int, widths: tuple[int, int], dtype) -> "KV":
        """A cache without tokens; `widths` are the widths of k and v."""
        k, v = (jnp.zeros((batch, heads, width, slots), dtype) for width in widths)
        return cls(k, v, jnp.full((batch, slots), -1, jnp.int32), jnp.zeros((batch,), jnp.int32))

    def keys(self, tokens: masks.Places) -> masks.Places:
        """Positions, documents and mask of the slots, followed by those of the tokens of a chunk."""
        position_BL, segment_BL, mask_BL = tokens
        real_BL = jnp.ones(position_BL.shape, bool) if mask_BL is None else mask_BL
        join = lambda old_BW, new_BL: jnp.concatenate([old_BW, new_BL], axis=1)
        return masks.Places(
            join(self.position_BW, position_BL),
            join(jnp.zeros_like(self.position_BW), segment_BL),
            join(self.position_BW >= 0, real_BL),
        )

    def joined(self, k_BLHK, v_BLHK):
        """Keys and values of the slots, followed by those of a chunk. This copies the whole cache."""
        join = lambda old_BHKW, new_BLHK: jnp.concatenate([jnp.moveaxis(old_BHKW, 3, 1), new_BLHK], axis=1)
        return join(self.k_BHKW, k_BLHK), join(self.v_BHKW, v_BLHK)

    def written(self, k_BLHK, v_BLHK, tokens: masks.Places, rolls: bool, read_BLx=None) -> "KV":
        """The cache after a chunk: it keeps tokens of the newest document only.

        If `rolls`, the newest tokens replace the oldest. Otherwise the first tokens stay, and tokens that do not fit
        are dropped. `read_BLx` is a result that was computed from the old cache: the write waits for it, so that XLA
        need not copy the cache.
        """
        position_BL, segment_BL, mask_BL = tokens
        W = self.position_BW.shape[1]
        newest_B1 = segment_BL[:, -1:]
        keep_BL = segment_BL == newest_B1 if mask_BL is None else mask_BL & (segment_BL == newest_B1)
        keep_BL &= position_BL > position_BL[:, -1:] - W if rolls else position_BL < W
        if read_BLx is not None:  # this is never true, but XLA does not know it and waits for the read
            keep_BL &= ~jnp.any(read_BLx > jnp.inf, axis=tuple(range(2, read_BLx.ndim)))
        slot_BL = jnp.where(keep_BL, position_BL % W, W)  # slot W does not exist: this write is dropped
        # Row by row, so that devices exchange nothing if rows are spread over them.
        put = jax.vmap(lambda old_XW, new_XL, slot_L: old_XW.at[..., slot_L].set(new_XL, mode="drop"))
        again_B1 = newest_B1 > 0

        def write(old_BHKW, new_BLHK):
            kept_BHKW = jnp.where(again_B1[:, :, None, None], jnp.zeros((), old_BHKW.dtype), old_BHKW)
            return put(kept_BHKW, jnp.moveaxis(new_BLHK, 1, 3).astype(old_BHKW.dtype), slot_BL)

        count_B = position_BL[:, -1] + 1  # a masked last token has the position of the token before it
        return KV(
            write(self.k_BHKW, k_BLHK),
            write(self.v_BHKW, v_BLHK),
            put(jnp.where(again_B1, -1, self.position_BW), position_BL, slot_BL),
            count_B if mask_BL is None else jnp.where(mask_BL.any(axis=1), count_B, self.count_B),
        )
