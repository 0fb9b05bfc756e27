"""Sequences in chunks of time, for recurrences: a chunk has T tokens and B rows, time first."""

import math

import jax
import jax.numpy as jnp


def in_chunks(tree_BLX, mask_BL, reset_BL):
    """(T, (tree, mask, reset)): the tokens per chunk, and the inputs padded with masked tokens to a multiple of T."""
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
    """The tokens per chunk: about 256 rows in each product, and no padding if a divisor of L is near."""
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
    """Writes chunk i back; XLA does this in place if the array is carried through a loop."""
    chunk_BTX = jnp.swapaxes(chunk_TBX, 0, 1).astype(a_BLX.dtype)
    return jax.lax.dynamic_update_slice_in_dim(a_BLX, chunk_BTX, i * chunk_TBX.shape[0], axis=1)


def choose(flag_XB, yes, no):
    """`yes` where the flag is set, else `no`; pytrees of (..., B, ...). If the flag is None: `yes`."""
    if flag_XB is None:
        return yes
    widen = lambda n: flag_XB.reshape(flag_XB.shape + (1,) * (n.ndim - flag_XB.ndim))
    return jax.tree.map(lambda y, n: jnp.where(widen(n), y, n), yes, no)


def is_local() -> bool:
    """Whether this program sees whole arrays of one device: it is the only one, or we are inside pmap or shard_map."""
    return jax.device_count() == 1 or bool(jax.sharding.get_abstract_mesh().manual_axes)


def shards(B: int) -> int:
    """The number of groups of rows: one per device if the batch is spread over all devices.

    Gradients of weights are summed per group, and over groups at the end: devices exchange them once, not per chunk.
    """
    return 1 if is_local() else math.gcd(B, jax.device_count())


def by_shard(a_TBX, groups: int):
    """(T, B, ...) -> (groups, T * B / groups, ...): one axis for time and rows of a group, for products over both.

    For a product over two axes, XLA on a CPU would first make transposed copies.
    """
    a_TSRX = a_TBX.reshape(len(a_TBX), groups, -1, *a_TBX.shape[2:])
    return jnp.swapaxes(a_TSRX, 0, 1).reshape(groups, -1, *a_TBX.shape[2:])
