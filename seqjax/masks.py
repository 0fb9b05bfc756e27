"""Makes all masks: bool, True = real. Models behave as if masked tokens did not exist."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


def from_lengths(length_B, L: int):
    """True for the first `length_B[b]` of L places: (B,) -> (B, L)."""
    return jnp.arange(L)[None, :] < length_B[:, None]


def fill(x, mask_BL, value=0):
    """`x` at real tokens, `value` at masked ones; x is (B, L, ...). NaN and gradients do not pass. None = all real."""
    if mask_BL is None:
        return x
    check(mask_BL, x.shape[:2])
    mask = mask_BL.reshape(mask_BL.shape + (1,) * (x.ndim - 2))
    return jnp.where(mask, x, jnp.asarray(value, jnp.result_type(x)))


def segments(shape, mask_BL=None, reset_BL=None):
    """Numbers the document of each token: the number of resets up to and including the token. (B, L), int32.

    Resets on masked tokens are ignored.
    """
    if reset_BL is None:
        return jnp.zeros(shape, jnp.int32)
    real = reset_BL if mask_BL is None else reset_BL & mask_BL
    return jnp.cumsum(real, axis=1, dtype=jnp.int32)


def positions(shape, mask_BL=None, reset_BL=None, start_B=None):
    """The position of each token among the real tokens of its document, from 0. (B, L), int32.

    `start_B` counts the tokens that the first document had before this chunk. Masked tokens get the position
    of the real token before them (or -1); no query may see them.
    """
    real = jnp.ones(shape, bool) if mask_BL is None else mask_BL
    count_BL = jnp.cumsum(real, axis=1, dtype=jnp.int32)
    if start_B is not None:
        count_BL = count_BL + start_B[:, None]
    if reset_BL is None:
        return count_BL - 1
    # The document starts at the count before the newest reset.
    before_BL = jnp.where(reset_BL & real, count_BL - 1, 0)
    return count_BL - 1 - jax.lax.cummax(before_BL, axis=1)


def ends(shape, mask_BL=None, reset_BL=None):
    """Resets for reading a sequence backwards: True at the last real token of each document; None if no resets."""
    if reset_BL is None:
        return None
    real_BL = jnp.ones(shape, bool) if mask_BL is None else mask_BL
    segment_BL = segments(shape, mask_BL, reset_BL)
    later_BL = jnp.where(real_BL, segment_BL, jnp.iinfo(jnp.int32).max)
    next_BL = jnp.pad(jax.lax.cummin(later_BL, axis=1, reverse=True)[:, 1:], [(0, 0), (0, 1)], mode="edge")
    return next_BL > segment_BL


class BlockPattern(NamedTuple):
    """A sparse pattern in blocks of `size` positions: local, global and random blocks, as in BigBird.

    A query sees the blocks up to `local_blocks` away from its own. The first `global_blocks` blocks see all blocks and
    are seen by all. Each block also sees `random_blocks` blocks further back, and these see it; they are drawn (with
    replacement) from only the block's number and `seed`. Zaheer et al. 2020, arXiv:2007.14062.
    """

    size: int = 64
    local_blocks: int = 1
    global_blocks: int = 1
    random_blocks: int = 2
    seed: int = 0

    def drawn(self, block) -> list[jax.Array]:
        """The random blocks of the block numbers `block`, each of its shape; -1 if no block is further back.

        The result is a numpy or a JAX array, as `block` is.
        """
        xp = block.__array_namespace__()
        choice = block - self.local_blocks - self.global_blocks
        found = []
        for j in range(self.random_blocks):
            offset = (j * 0x85EBCA77 + self.seed) % 2**32
            bits = block.astype(np.uint32) * np.uint32(0x9E3779B1) + np.uint32(offset)
            for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):  # each input bit flips half of the output bits
                bits = (bits ^ (bits >> shift)) * np.uint32(factor)
            place = self.global_blocks + (bits >> 16).astype(np.int32) % xp.maximum(choice, 1)
            found.append(xp.where(choice > 0, place, -1))
        return found

    def sees(self, position_q, position_k):
        """Whether a query position sees a key position; shapes broadcast."""
        block_q, block_k = position_q // self.size, position_k // self.size
        seen = (jnp.abs(block_q - block_k) <= self.local_blocks) | (jnp.minimum(block_q, block_k) < self.global_blocks)
        for one, other in ((block_q, block_k), (block_k, block_q)):
            for drawn in self.drawn(one):
                seen |= drawn == other
        return seen

    def may(self, low_q, high_q, low_k, high_k, span: int):
        """Whether any position in low_q ... high_q may see one in low_k ... high_k; True if not sure.

        A range of more than `span` positions counts as not sure.
        """
        low_q, high_q, low_k, high_k = (a // self.size for a in (low_q, high_q, low_k, high_k))
        seen = (low_q - high_k <= self.local_blocks) & (low_k - high_q <= self.local_blocks)
        seen |= low_q.__array_namespace__().minimum(low_q, low_k) < self.global_blocks
        if not self.random_blocks:
            return seen
        count = span // self.size + 2
        for low, high, first, last in ((low_q, high_q, low_k, high_k), (low_k, high_k, low_q, high_q)):
            seen |= high - low >= count
            for i in range(count):
                for drawn in self.drawn(low + i):
                    seen |= (low + i <= high) & (drawn >= first) & (drawn <= last)
        return seen


class Pattern(NamedTuple):
    """Which positions of its own document a query sees, fixed when the program is compiled. The default shows all.

    causal: no position ahead.
    window: at most `window` positions back, its own included; as many ahead, unless causal.
    dilation: only every `dilation`-th position; a window of w then reaches (w - 1) * dilation back.
    prefix: the first `prefix` positions are seen from everywhere, whatever the other fields say.
    blocks: only the positions that `BlockPattern` shows.
    """

    causal: bool = False
    window: int | None = None
    dilation: int = 1
    prefix: int = 0
    blocks: BlockPattern | None = None

    @property
    def reach(self) -> int | None:
        """How many positions away the window reaches; None: no limit."""
        return None if self.window is None else (self.window - 1) * self.dilation

    def sees(self, position_q, position_k):
        """Whether a query position sees a key position: bool, shapes broadcast; True if all see all."""
        back, seen = position_q - position_k, True
        if self.causal:
            seen = back >= 0
        if self.window is not None:
            seen &= (back if self.causal else jnp.abs(back)) <= self.reach
        if self.dilation > 1:
            seen &= back % self.dilation == 0
        if self.blocks is not None:
            seen &= self.blocks.sees(position_q, position_k)
        return seen | (position_k < self.prefix) if self.prefix else seen

    def may(self, low_q, high_q, low_k, high_k, span: int):
        """Whether any position in low_q ... high_q may see one in low_k ... high_k; True if not sure.

        `span` is the number of positions in a range that has no gaps.
        """
        seen = (low_q <= high_q) & (low_k <= high_k)
        if self.causal:
            seen &= high_q >= low_k
        if self.window is not None:
            seen &= low_q - high_k <= self.reach
            if not self.causal:
                seen &= low_k - high_q <= self.reach
        if self.blocks is not None:
            seen &= self.blocks.may(low_q, high_q, low_k, high_k, span)
        return seen | ((low_k < self.prefix) & (low_q <= high_q)) if self.prefix else seen


EVERYTHING = Pattern()


class Places(NamedTuple):
    """Positions, documents and mask of the queries or the keys of attention; each (B, L), or (1, L) if rows are alike.

    None means positions 0, 1, 2, ..., one document, and all tokens real.
    """

    position_BL: jax.Array | None = None
    segment_BL: jax.Array | None = None
    mask_BL: jax.Array | None = None

    def filled(self, L: int) -> tuple[jax.Array, jax.Array]:
        """Positions and segments of L tokens, (1 or B, L) each."""
        position_BL = jnp.arange(L)[None] if self.position_BL is None else self.position_BL
        return position_BL, jnp.zeros((1, L), jnp.int32) if self.segment_BL is None else self.segment_BL


def visible(queries: Places, keys: Places, L: int, S: int, pattern: Pattern = EVERYTHING):
    """Which of S keys each of L queries may see. (1 or B, L, S).

    A query sees the real keys of its document that the pattern shows. A masked query sees none.
    """
    (position_BL, segment_BL), (position_BS, segment_BS) = queries.filled(L), keys.filled(S)
    allowed = segment_BS[:, None, :] == segment_BL[:, :, None]
    allowed = allowed if keys.mask_BL is None else allowed & keys.mask_BL[:, None, :]
    allowed &= pattern.sees(position_BL[:, :, None], position_BS[:, None, :])
    return allowed if queries.mask_BL is None else allowed & queries.mask_BL[:, :, None]


def check(mask_BL, shape, name: str = "mask_BL") -> None:
    """Raises ValueError unless a mask is bool and has the wanted shape (B, L)."""
    if mask_BL is None:
        return
    if mask_BL.dtype != bool or mask_BL.shape != tuple(shape):
        raise ValueError(
            f"{name} is {mask_BL.dtype}{list(mask_BL.shape)}, wanted bool{list(shape)} with True = real: "
            "make it with seqjax.masks."
        )
