"""Ring attention: sequences are split over devices, and keys and values move from device to device in a ring.

Each device keeps the queries of its chunk. The chunks of keys pass through all devices, and softmax continues from
chunk to chunk as it does from block to block. In the backward pass the gradients of keys and values travel with them
and return to their own device. A device holds two chunks of keys at a time, and the scores of one block: its memory
grows as L / n. A device does not compute chunks that its queries cannot see; it only passes them on.

With causal attention the first device would see one chunk and the last device all n. To balance this, each sequence is
first split into 2 n pieces, and device i takes the i-th piece and the i-th piece from the end.

Liu et al. 2023, "Ring attention with blockwise transformers", arXiv:2310.01889. The order of the pieces: Brandon et al.
2023, "Striped attention", arXiv:2311.09431, for the problem, and Llama Team 2024, arXiv:2407.21783, for this solution.
"""

import functools

import jax
import jax.numpy as jnp

from seqjax.ops import _blocks, _blockwise, ring


def attend(q_BLHK, k_BLGK, v_BLGK, queries, keys, sinks_H, relative, rules, block: int):
    """`seqjax.ops._blockwise.attend` over the devices of the axis `sequence`, for as many keys as queries."""
    L = q_BLHK.shape[1]
    n = ring.devices(L)
    placed = lambda tokens: tokens._replace(position_BL=tokens.filled(L)[0])
    # With a window all devices see about equally much, and mostly their neighbours: then chunks stay as they are.
    balanced = rules.pattern.causal and rules.pattern.window is None and L // n % 2 == 0

    def chunk(q, k, v, queries, keys, sinks_H, relative):
        tokens = (q, k, v, queries, keys)
        q, k, v, queries, keys = _deal(tokens, n) if balanced else tokens
        run = functools.partial(_run, n)
        y = _blockwise.attend(q, k, v, queries, keys, sinks_H, relative, rules, block, run)
        return _deal(y, n, back=True) if balanced else y

    whole = sinks_H, relative
    return ring.by_chunk(chunk, q_BLHK, k_BLGK, v_BLGK, placed(queries), placed(keys), whole=whole)


def _deal(tree, n: int, back: bool = False):
    """Exchanges pieces so that device i has the i-th of 2 n pieces and the i-th from the end; `back` undoes this."""
    place = lambda piece: min(piece, 2 * n - 1 - piece)

    def deal(a_BLX):
        halves = []
        for half, a_BMX in enumerate(jnp.split(a_BLX, 2, axis=1)):
            moves = [(i, place(2 * i + half)) for i in range(n)]
            moves = [(there, here) for here, there in moves] if back else moves
            halves.append(jax.lax.ppermute(a_BMX, ring.AXIS, moves))
        return jnp.concatenate(halves, axis=1)

    return jax.tree.map(deal, tree)


def _here(marks, position_k, segment_k):
    return marks._replace(position_k=position_k, segment_k=segment_k)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _run(n, rules, q, k, v, extras, marks):
    return _forward(n, rules, q, k, v, extras, marks)[0]


def _forward(n, rules, q, k, v, extras, marks):
    def turn(_, carry):
        softmax, (k, v, *mark_k) = carry
        here = _here(marks, *mark_k)
        meet = _blocks.meet(rules.pattern, here)
        see = lambda softmax: _blockwise.rows(rules, q, k, v, extras, _blockwise.by_head(here, q), meet, softmax)
        softmax = jax.lax.cond(meet.count_n.any(), see, lambda softmax: softmax, softmax)
        return softmax, ring.pass_on((k, v, *mark_k), n)

    *shape, K = q.shape
    start = _blockwise.fresh(extras, tuple(shape), K)
    softmax, _ = jax.lax.fori_loop(0, n, turn, (start, (k, v, marks.position_k, marks.segment_k)))
    yT, sums = _blockwise.finished(softmax, q.dtype)
    y = jnp.swapaxes(yT, 3, 4)
    return y, (q, k, v, extras, marks, y, sums)


def _backward(n, rules, residuals, dy):
    q, k, v, extras, marks, y, sums = residuals
    inner = _blockwise.along(y, dy)

    def turn(_, carry):
        sums_q, sums_k, (k, v, *mark_k) = carry
        here = _here(marks, *mark_k)
        meet = _blocks.meet(rules.pattern, here)

        def pull(sums_q, sums_k):
            spread = _blockwise.by_head(here, q)
            sums_q, new = _blockwise.columns(rules, q, k, v, extras, spread, meet, sums, inner, dy, sums_q)
            return sums_q, jax.tree.map(jnp.add, sums_k, new)

        sums_q, sums_k = jax.lax.cond(meet.count_n.any(), pull, lambda *sums: sums, sums_q, sums_k)
        return sums_q, *ring.pass_on((sums_k, (k, v, *mark_k)), n)

    zeros = tuple(jnp.zeros(a.shape, jnp.float32) for a in (k, v))
    carry = _blockwise.unpulled(extras, q), zeros, (k, v, marks.position_k, marks.segment_k)
    sums_q, sums_k, _ = jax.lax.fori_loop(0, n, turn, carry)
    dq, dextras = _blockwise.pulled(sums_q, extras, q.dtype, sums, inner)
    return dq, *(a.astype(q.dtype) for a in sums_k), dextras, None


_run.defvjp(_forward, _backward)
