"""One scan over chunks of tokens, for recurrences that compute the tokens of a chunk at once.

Masks and resets are handled here and in `Chunk`: a masked token has zeros in all its arrays, and a reset starts a new
document. Documents are numbered within their chunk. Tokens see each other if they have the same number. Only document 0
sees the state before the chunk, and only the last document is in the state after it.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax import masks
from seqjax.ops import ring


class Chunk(NamedTuple):
    """T = `length` tokens of B rows."""

    length: int
    tokens: Any  # a tree of arrays (B, T, ...), zero where masked
    real_BT: jax.Array | None  # None: all are real
    fresh_BT: jax.Array | None  # the real ones that start a document; None: none does

    @property
    def segment_BT(self):
        """The document of each token, from 0; (1, T) if there are no resets."""
        return masks.segments((1, self.length), None, self.fresh_BT)

    @property
    def old_BT(self):
        """The tokens that see the state before the chunk."""
        return self.segment_BT == 0

    @property
    def stays_BT(self):
        """The real tokens that are in the state after the chunk."""
        newest_BT = self.segment_BT == self.segment_BT[:, -1:]
        return newest_BT if self.real_BT is None else newest_BT & self.real_BT

    def keep(self, state):
        """What of the state before the chunk is in the state after it: all, or zeros in a row with a reset."""
        if self.fresh_BT is None:
            return state
        kept_B = ~self.fresh_BT.any(axis=1)
        return jax.tree.map(lambda a_BX: jnp.where(kept_B.reshape(-1, *(1,) * (a_BX.ndim - 1)), a_BX, 0), state)

    def visible(self, causal: bool = True):
        """Which token, on the left, sees which real token of the chunk, on the right: (1 or B, T, T)."""
        queries = masks.Places(segment_BL=self.segment_BT)
        keys = queries._replace(mask_BL=self.real_BT)
        return masks.visible(queries, keys, self.length, self.length, masks.Pattern(causal=causal))


class Effect(NamedTuple):
    """What tokens do to a state that a device does not have yet, as a tree of arrays (B, ...), and how that is used."""

    start: Callable  # state -> the effect of no tokens; it reads only shapes and dtypes
    step: Callable  # (effect, Chunk, *rows) -> (the effect of these tokens, too; None)
    between: Callable  # effects of n devices (B, n, ...), state -> the states before their tokens, and after the last


def linear(step) -> Effect:
    """The effect of tokens that change a state h to decay * h + gain: `step` reads and writes (decay, gain)."""
    filled = lambda f, state: jax.tree.map(lambda a: f(a.shape, a.dtype), state)
    start = lambda state: (filled(jnp.ones, state), filled(jnp.zeros, state))
    return Effect(start, step, lambda effects, state: ring.between(*effects, state))


def scan(
    step, state, tokens, mask_BL, reset_BL, chunk: int, effect: Effect | None = None, heads_first: bool = False, rows=()
):
    """The state after all chunks, and what `step` gives for each token, zero where masked.

    The backward pass keeps one state per chunk and computes the rest again.

    Args:
      step: (state, Chunk, *rows) -> (state, y). It reads arrays (B, T, ...) and writes a tree of such arrays, y.
      tokens: a tree of arrays (B, L, ...).
      mask_BL, reset_BL: bool, as in a mixer, or None.
      chunk: tokens per chunk, at most. All chunks have equal length; the last one is padded with masked tokens.
      effect: if the mesh splits sequences (`seqjax.ops.ring`), each device first finds the effect of its own tokens,
        and devices exchange only these effects. Without it, the scan is one loop over all tokens on every mesh.
      heads_first: the step reads and writes (B, H, T, ...), and tokens are (B, L, H, ...). A step that uses `swap`
        gets the same; which of the two is faster must be measured.
      rows: trees of arrays (B, ...) that are the same for all tokens. A step that closed over them could not be run on
        several devices.

    Raises:
      ValueError: a mask has the wrong shape, a chunk is empty, or the length cannot be split over devices.
    """
    if chunk < 1:
        raise ValueError(f"chunk={chunk}; it is the number of tokens that are computed at once: choose at least 1.")
    L = jax.tree.leaves(tokens)[0].shape[1]
    if effect is None or ring.devices(L) == 1:
        return _scan(step, state, tokens, mask_BL, reset_BL, chunk, heads_first, rows)

    def ends(tokens, mask_BL, reset_BL, *rows):
        end, _ = _scan(effect.step, effect.start(state), tokens, mask_BL, reset_BL, chunk, heads_first, rows)
        return jax.tree.map(lambda a: a[:, None], end)

    def read(tokens, mask_BL, reset_BL, before, *rows):
        before = jax.tree.map(lambda a: a[:, 0], before)
        return _scan(step, before, tokens, mask_BL, reset_BL, chunk, heads_first, rows)[1]

    before, state = effect.between(ring.by_chunk(ends, tokens, mask_BL, reset_BL, whole=rows), state)
    return state, ring.by_chunk(read, tokens, mask_BL, reset_BL, before, whole=rows)


def _scan(step, state, tokens, mask_BL, reset_BL, chunk, heads_first, rows):
    L, tokens, real_BL, fresh_BL = whole(tokens, mask_BL, reset_BL)
    B = jax.tree.leaves(tokens)[0].shape[0]
    count = math.ceil(L / chunk)
    T = math.ceil(L / count)
    if real_BL is None and count * T > L:
        real_BL = jnp.ones((B, L), bool)

    def cut(a_BLX):
        """(B, L, ...) -> chunks as the first axis."""
        a_BLX = jnp.pad(a_BLX, [(0, 0), (0, count * T - L)] + [(0, 0)] * (a_BLX.ndim - 2))
        return jnp.moveaxis(a_BLX.reshape(B, count, T, *a_BLX.shape[2:]), 1, 0)

    def join(a_CBTX):
        a_BLX = jnp.moveaxis(a_CBTX, 0, 1).reshape(B, count * T, *a_CBTX.shape[3:])[:, :L]
        return masks.fill(a_BLX, mask_BL)

    turn = partial(swap, axis=2) if heads_first else lambda tree: tree
    chunks = turn(jax.tree.map(cut, tokens)), *jax.tree.map(cut, (real_BL, fresh_BL))
    one = lambda state, chunk: step(state, Chunk(T, *chunk), *rows)
    # Without checkpoint, autodiff would keep the weights of every chunk. (A hand-written backward pass is no faster.)
    state, y = jax.lax.scan(jax.checkpoint(one, prevent_cse=False), state, chunks)
    return state, jax.tree.map(join, turn(y))


def whole(tokens, mask_BL, reset_BL) -> Chunk:
    """All tokens of a call as one chunk; the arguments are those of `scan`."""
    B, L = jax.tree.leaves(tokens)[0].shape[:2]
    masks.check(mask_BL, (B, L))
    masks.check(reset_BL, (B, L), "reset_BL")
    fresh_BL = reset_BL if reset_BL is None or mask_BL is None else reset_BL & mask_BL
    return Chunk(L, jax.tree.map(lambda a_BLX: masks.fill(a_BLX, mask_BL), tokens), mask_BL, fresh_BL)


def swap(tree, axis: int = 1):
    """(B, T, H, ...) -> (B, H, T, ...) and back. XLA on a CPU has no bfloat16 product for some other layouts."""
    return jax.tree.map(lambda a: jnp.swapaxes(a, axis, axis + 1), tree)
