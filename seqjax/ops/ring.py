"""Sequences split over devices: along the mesh axis `sequence`, each device has one chunk of the tokens.

Set the mesh around a call with `jax.set_mesh(mesh)`. Only operations along a sequence have their own code for this:
ring attention (`seqjax.ops._ring_attention`), and linear recurrences and convolutions through the states between chunks
(`between`). XLA splits everything else.
"""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

AXIS = "sequence"


def devices(L: int) -> int:
    """The number of devices over which sequences of L tokens are split; 1: not split. A single token is never split.

    Raises:
      ValueError: the number of devices does not divide L.
    """
    n = jax.sharding.get_abstract_mesh().shape.get(AXIS, 1)
    if n == 1 or L == 1:
        return 1
    if L % n:
        raise ValueError(
            f"sequences of {L} tokens cannot be split into {n} equal chunks, one for each device of the mesh axis "
            f"{AXIS!r}: choose a length that is a multiple of {n}, or another parallel.sequence."
        )
    return n


def spread(x_BLX):
    """Splits the tokens of x over the devices, if there are several; rows and features stay where they are."""
    if devices(x_BLX.shape[1]) == 1:
        return x_BLX
    free = PartitionSpec.UNCONSTRAINED
    return jax.lax.with_sharding_constraint(x_BLX, PartitionSpec(free, AXIS, *(free,) * (x_BLX.ndim - 2)))


def by_chunk(f, *cut, whole=()):
    """Calls f(*cut, *whole) on each device for its chunk. `cut` and results are trees of arrays, split along axis 1.

    Arrays in `whole` are replicated on all devices, and their gradients are summed. Rows and heads may be spread over
    other axes of the mesh, which f does not see.
    """
    chunk = PartitionSpec(None, AXIS)
    places = (*(chunk,) * len(cut), *(PartitionSpec(),) * len(whole))
    # check_vma=False: with the check, loops that start from zeros would have to declare that their results differ.
    f = jax.shard_map(f, in_specs=places, out_specs=chunk, axis_names={AXIS}, check_vma=False)
    return jax.jit(f)(*cut, *whole)  # jit, so that it also works outside of a jitted function


def between(decay, gain, first, reverse: bool = False, move=jnp.multiply):
    """The states before each of n chunks and after the last one, where a chunk maps a state h to move(decay, h) + gain.

    Arguments and results are trees of arrays: decay and gain (B, n, ...), one per chunk, first (B, ...) ->
    (B, n, ...), (B, ...). They are small, so every device gets those of all chunks and computes the same result.
    `reverse`: from the last chunk to the first.
    """
    free = PartitionSpec.UNCONSTRAINED
    everywhere = lambda a: jax.lax.with_sharding_constraint(a, PartitionSpec(free, None, *(free,) * (a.ndim - 2)))
    decay, gain = jax.tree.map(everywhere, (decay, gain))
    h, order = first, range(jax.tree.leaves(gain)[0].shape[1])
    found = {}
    for i in reversed(order) if reverse else order:
        found[i] = h
        h = jax.tree.map(lambda d, g, h, i=i: move(d[:, i], h) + g[:, i], decay, gain, h)
    return jax.tree.map(lambda *chunks: everywhere(jnp.stack(chunks, axis=1)), *(found[i] for i in order)), h


def pass_on(tree, n: int):
    """Sends the arrays of each device to the next device, in a ring."""
    return jax.tree.map(lambda a: jax.lax.ppermute(a, AXIS, [(i, (i + 1) % n) for i in range(n)]), tree)
