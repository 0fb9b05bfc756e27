"""A sequence cut over devices: the axis `sequence` of the mesh around a call, each device with a chunk of the tokens.

A mesh is around a call inside `jax.set_mesh(mesh)`. Only what looks along a sequence is written for it: attention in a
ring (`seqjax.ops._ring_attention`), linear recurrences by the states between chunks (`between`). All else is XLA's.
"""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

AXIS = "sequence"


def devices(L: int) -> int:
    """Over how many devices sequences of L tokens are cut; 1: not at all. A single token is never cut.

    Raises:
      ValueError: the devices do not divide the tokens.
    """
    n = jax.sharding.get_abstract_mesh().shape.get(AXIS, 1)
    if n == 1 or L == 1:
        return 1
    if L % n:
        raise ValueError(
            f"sequences of {L} tokens cannot be cut into {n} equal chunks, one for each device of the mesh's axis "
            f"{AXIS!r}: choose a length that is a multiple of {n}, or another parallel.sequence."
        )
    return n


def spread(x_BLX):
    """x with its tokens over the devices, if there are several; rows and features stay where they are."""
    if devices(x_BLX.shape[1]) == 1:
        return x_BLX
    free = PartitionSpec.UNCONSTRAINED
    return jax.lax.with_sharding_constraint(x_BLX, PartitionSpec(free, AXIS, *(free,) * (x_BLX.ndim - 2)))


def by_chunk(f, *cut, whole=()):
    """f(*cut, *whole) on each device for its chunk: trees of arrays (B, L, ...), in and out, are cut along axis 1.

    Those of `whole` are on all devices alike; their gradients are added up. Rows and heads may be spread over other
    axes of the mesh, which f does not see.
    """
    chunk = PartitionSpec(None, AXIS)
    places = (*(chunk,) * len(cut), *(PartitionSpec(),) * len(whole))
    # What is replicated is said by hand: loops that start from zeros would have to be told that their results differ.
    f = jax.shard_map(f, in_specs=places, out_specs=chunk, axis_names={AXIS}, check_vma=False)
    return jax.jit(f)(*cut, *whole)  # as a program of its own it runs outside of one, too


def between(decay, gain, first, reverse: bool = False):
    """What n chunks, each of which maps h to decay h + gain, find before them, and what is left after the last.

    Trees of arrays: decay and gain (B, n, ...), one of each chunk, first (B, ...) -> (B, n, ...), (B, ...). They are
    small: every device gets those of all chunks and computes the same. `reverse`: from the last chunk to the first.
    """
    free = PartitionSpec.UNCONSTRAINED
    everywhere = lambda a: jax.lax.with_sharding_constraint(a, PartitionSpec(free, None, *(free,) * (a.ndim - 2)))
    decay, gain = jax.tree.map(everywhere, (decay, gain))
    h, order = first, range(jax.tree.leaves(gain)[0].shape[1])
    found = {}
    for i in reversed(order) if reverse else order:
        found[i] = h
        h = jax.tree.map(lambda d, g, h, i=i: d[:, i] * h + g[:, i], decay, gain, h)
    return jax.tree.map(lambda *chunks: everywhere(jnp.stack(chunks, axis=1)), *(found[i] for i in order)), h


def pass_on(tree, n: int):
    """Each device's arrays to the next one, in a ring."""
    return jax.tree.map(lambda a: jax.lax.ppermute(a, AXIS, [(i, (i + 1) % n) for i in range(n)]), tree)
