"""All masks are made here: bool, True = real. A masked token does not exist."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


def from_lengths(length_B, L: int):
    """True for the first `length_B[b]` of L places: (B,) -> (B, L)."""
    return jnp.arange(L)[None, :] < length_B[:, None]


def fill(x, mask_BL, value=0):
    """`x` where real, `value` where masked; x is (B, L, ...). Blocks NaN and gradient; None = all real."""
    if mask_BL is None:
        return x
    check(mask_BL, x.shape[:2])
    mask = mask_BL.reshape(mask_BL.shape + (1,) * (x.ndim - 2))
    return jnp.where(mask, x, jnp.asarray(value, jnp.result_type(x)))


def segments(shape, mask_BL=None, reset_BL=None):
    """Which document each token is in: the number of resets up to and including it. (B, L), int32.

    A reset on a masked token does not exist either.
    """
    if reset_BL is None:
        return jnp.zeros(shape, jnp.int32)
    real = reset_BL if mask_BL is None else reset_BL & mask_BL
    return jnp.cumsum(real, axis=1, dtype=jnp.int32)


def positions(shape, mask_BL=None, reset_BL=None, start_B=None):
    """The place of each token among the real ones of its document, from 0. (B, L), int32.

    `start_B` counts the tokens that the first document had before this chunk. Masked tokens get the place of
    the real token before them (or -1); nobody may look at them.
    """
    real = jnp.ones(shape, bool) if mask_BL is None else mask_BL
    count_BL = jnp.cumsum(real, axis=1, dtype=jnp.int32)
    if start_B is not None:
        count_BL = count_BL + start_B[:, None]
    if reset_BL is None:
        return count_BL - 1
    # The count before the newest reset is where the document starts.
    before_BL = jnp.where(reset_BL & real, count_BL - 1, 0)
    return count_BL - 1 - jax.lax.cummax(before_BL, axis=1)


def ends(shape, mask_BL=None, reset_BL=None):
    """The resets of a sequence that is read backwards: True at the last real token of each document. None: none."""
    if reset_BL is None:
        return None
    real_BL = jnp.ones(shape, bool) if mask_BL is None else mask_BL
    segment_BL = segments(shape, mask_BL, reset_BL)
    later_BL = jnp.where(real_BL, segment_BL, jnp.iinfo(jnp.int32).max)
    next_BL = jnp.pad(jax.lax.cummin(later_BL, axis=1, reverse=True)[:, 1:], [(0, 0), (0, 1)], mode="edge")
    return next_BL > segment_BL


def together(segment_q_BL, segment_k_BS, mask_k_BS=None):
    """Which keys are of the document of each query, and real. (B, L, S)."""
    allowed = segment_k_BS[:, None, :] == segment_q_BL[:, :, None]
    return allowed if mask_k_BS is None else allowed & mask_k_BS[:, None, :]


def causal(position_q_BL, position_k_BS, segment_q_BL, segment_k_BS, mask_k_BS=None, window=None):
    """Which key each query may see: not later, less than `window` before, same document, real. (B, L, S)."""
    back_BLS = position_q_BL[:, :, None] - position_k_BS[:, None, :]
    near = back_BLS >= 0 if window is None else (back_BLS >= 0) & (back_BLS < window)
    return near & together(segment_q_BL, segment_k_BS, mask_k_BS)


class Tokens(NamedTuple):
    """Where the queries or the keys of attention stand; each (B, L), or (1, L) for all rows alike.

    None stands for 0, 1, 2, ..., for one document, and for all real.
    """

    position_BL: jax.Array | None = None
    segment_BL: jax.Array | None = None
    mask_BL: jax.Array | None = None

    def filled(self, L: int) -> tuple[jax.Array, jax.Array]:
        """Positions and segments of L tokens, (1 or B, L) each."""
        position_BL = jnp.arange(L)[None] if self.position_BL is None else self.position_BL
        return position_BL, jnp.zeros((1, L), jnp.int32) if self.segment_BL is None else self.segment_BL


def visible(queries: Tokens, keys: Tokens, L: int, S: int, is_causal: bool, window=None):
    """Which of S keys each of L queries may see; a masked query sees none. (1 or B, L, S)."""
    (position_BL, segment_BL), (position_BS, segment_BS) = queries.filled(L), keys.filled(S)
    if is_causal:
        allowed = causal(position_BL, position_BS, segment_BL, segment_BS, keys.mask_BL, window)
    else:
        allowed = together(segment_BL, segment_BS, keys.mask_BL)
    return allowed if queries.mask_BL is None else allowed & queries.mask_BL[:, :, None]


def check(mask_BL, shape, name: str = "mask_BL") -> None:
    """Raises ValueError unless a mask is bool and of the wanted (B, L)."""
    if mask_BL is None:
        return
    if mask_BL.dtype != bool or mask_BL.shape != tuple(shape):
        raise ValueError(
            f"{name} is {mask_BL.dtype}{list(mask_BL.shape)}, wanted bool{list(shape)} with True = real: "
            "make it with seqjax.masks."
        )
