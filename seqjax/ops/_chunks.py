"""Sequences in chunks of time, for recurrences: T tokens of a chunk, time first, B rows."""

import math

import jax
import jax.numpy as jnp


def in_chunks(tree_BLX, mask_BL, reset_BL):
    """(T, (tree, mask, reset)): tokens per chunk, and inputs filled up with masked tokens to a multiple of it."""
    B, L = jax.tree.leaves(tree_BLX)[0].shape[:2]
    T = _chunk_length(B, L)
    if reset_BL is not None and mask_BL is not None:
        reset_BL = reset_BL & mask_BL
    spare = -L % T
    if spare and mask_BL is None:
        mask_BL = jnp.ones((B, L), bool)
    fill_up = lambda a: jnp.pad(a, [(0, 0), (0, spare)] + [(0, 0)] * (a.ndim - 2)) if spare else a
    return T, jax.tree.map(fill_up, (tree_BLX, mask_BL, reset_BL))


def _chunk_length(B: int, L: int) -> int:
    """About 256 rows in each product, and no filling-up if a divisor of L is near."""
    wanted = max(256 // B, 8)
    if wanted >= L:
        return L
    divisors = [T for T in range(math.ceil(wanted / 2), 2 * wanted + 1) if L % T == 0]
    equal = math.ceil(L / math.ceil(L / wanted))
    return min(divisors or [equal], key=lambda T: abs(math.log(T / wanted)))


def cut(tree, i, T: int):
    """Chunk i of each (B, L, ...), time first."""
    return jax.tree.map(lambda a: jnp.swapaxes(jax.lax.dynamic_slice_in_dim(a, i * T, T, axis=1), 0, 1), tree)


def paste(a_BLX, chunk_TBX, i):
    """Writes chunk i back; in place, as the array is carried through a loop."""
    chunk_BTX = jnp.swapaxes(chunk_TBX, 0, 1).astype(a_BLX.dtype)
    return jax.lax.dynamic_update_slice_in_dim(a_BLX, chunk_BTX, i * chunk_TBX.shape[0], axis=1)


def choose(flag_XB, yes, no):
    """yes where the flag is set, else no; pytrees of (..., B, ...). No flag: yes."""
    if flag_XB is None:
        return yes
    widen = lambda n: flag_XB.reshape(flag_XB.shape + (1,) * (n.ndim - flag_XB.ndim))
    return jax.tree.map(lambda y, n: jnp.where(widen(n), y, n), yes, no)


def is_local() -> bool:
    """Whether arrays lie on one device as a whole: there is one only, or this is the part of one (pmap, shard_map)."""
    return jax.device_count() == 1 or bool(jax.sharding.get_abstract_mesh().manual_axes)


def shards(B: int) -> int:
    """Into how many groups the rows fall, one per device if all the batch is spread over all devices.

    Gradients of weights are added up per group, and over groups at the end: devices talk once, not once per chunk.
    """
    return 1 if is_local() else math.gcd(B, jax.device_count())


def by_shard(a_TBX, groups: int):
    """(T, B, ...) -> (groups, T * B / groups, ...): the rows of each group in one, for products over all of them.

    A product over two axes XLA's CPU would do on copies that it turns round first.
    """
    a_TSRX = a_TBX.reshape(len(a_TBX), groups, -1, *a_TBX.shape[2:])
    return jnp.swapaxes(a_TSRX, 0, 1).reshape(groups, -1, *a_TBX.shape[2:])
