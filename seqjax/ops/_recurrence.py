"""The engine of the classical cells: a recurrence over time with a hand-written backward pass.

Autodiff of a scan multiplies by all weights, and sums their gradients, once per token. Here the scan contains only
what depends on the carried state:

    forward    input projections for a chunk of tokens in one product; per token one product with the recurrent
               kernel, and one tanh for all gates: sigmoid(z) = tanh(z / 2) / 2 + 1 / 2, with the factors 1 / 2 inside
               tanh folded into the weights.
    backward   all local slopes of a chunk at once, from the stored gates; per token one product with the transposed
               kernel; then the gradients of the weights and of the input, one product each.

The work is done chunk by chunk, so that temporaries stay in the CPU cache and memory is little more than states and
gates. Arrays are time-major inside: T tokens of a chunk, B rows, M = gates * N.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax import masks
from seqjax.ops._chunks import by_shard, choose, cut, in_chunks, paste, shards
from seqjax.ops._product import product


class Cell(NamedTuple):
    """One step of a recurrence and its derivative, in three pieces. `state` is a tuple whose first entry is h.

    scale: per gate, the factor of z inside the cell's tanh.
    parts: the number of arrays into which u is split before the loop. (XLA on a CPU does not vectorise a fused loop
      that slices u and takes the tanh of a tanh, which halves its speed: use one part per gate there. One part is best
      for a single tanh over all gates.)
    step: (u, g_BM, state) -> (state, kept); u (its parts) and g are the scaled input and recurrent parts of z, kept
      holds the values that the slopes need.
    rest: kept -> (keep, write, new) for the second entry of a state, c = keep * c + write * new, for all tokens of a
      chunk; None if h is the only entry.
    slopes: (kept, before, after) -> slopes, for all tokens of a chunk.
    back: (dstate, slopes) -> (the part of dstate that reaches the state before directly, dz_BM for the recurrent
      kernel, extra), one token.
    input: (dz_TBM, extra) -> dz_TBM for the input kernel.
    """

    scale: tuple[float, ...]
    parts: int
    step: Callable
    rest: Callable
    slopes: Callable
    back: Callable
    input: Callable


class Weights(NamedTuple):
    """Input kernel (D, M), recurrent kernel (N, M), and the biases of the input part (M,) and recurrent part (M,)."""

    kernel: Any
    recurrent: Any
    bias: Any
    recurrent_bias: Any


def run(cell: Cell, x_BLD, weights: Weights, state: tuple, initial: tuple, mask_BL=None, reset_BL=None, remat=False):
    """Runs the cell: -> h of every token (B, L, N) in the state's dtype, zero where masked, and the last state.

    A masked token does not change the state; a reset (on a real token) sets the state before it to `initial`. `remat`
    keeps one state per chunk instead of all gates, and runs each chunk a second time in the backward pass.
    """
    T, inputs = in_chunks(x_BLD, mask_BL, reset_BL)
    h_BLN, state = _run(cell, T, remat, *inputs, weights, state, initial)
    return masks.fill(h_BLN[:, : x_BLD.shape[1]], mask_BL), state


def _scaled(cell: Cell, weights: Weights) -> Weights:
    """The weights times `scale` of each gate; kernel and bias of the input are split into `parts`, like u."""
    scale_M = jnp.repeat(jnp.array(cell.scale, weights.kernel.dtype), weights.kernel.shape[1] // len(cell.scale))
    return Weights(
        jnp.split(weights.kernel * scale_M[None], cell.parts, axis=-1),
        weights.recurrent * scale_M[None],
        jnp.split(weights.bias * scale_M, cell.parts),
        weights.recurrent_bias,
    )


def _tokens(cell: Cell, w: Weights, initial, state, inputs, h_BLN, kept, first):
    """One chunk forward, weights scaled: -> the state after it, and h and kept with its tokens written from `first` on.

    `kept` holds the values that the slopes need. Either of h and kept may be None if it is not needed. Both are written
    token by token into the final arrays: a separate array per chunk would have to be zeroed and then copied.
    """
    x_TBD, mask_TB, reset_TB = inputs
    dtype = x_TBD.dtype
    write = jax.lax.dynamic_update_index_in_dim

    def step(carry, slices):
        before, h_BLN, kept = carry
        t, u, mask_B, reset_B = slices
        before = before if reset_B is None else choose(reset_B, initial, before)
        g_BM = product("BN,NM->BM", before[0], w.recurrent, dtype)
        if w.recurrent_bias is not None:
            g_BM = g_BM + w.recurrent_bias[None]
        u = [u_BM + bias_M[None] for u_BM, bias_M in zip(u, w.bias, strict=True)]  # fused into the step
        after, new = cell.step(u, g_BM, before)
        after = choose(mask_B, after, before)
        h_BLN = None if h_BLN is None else write(h_BLN, after[0], t, 1)
        kept = None if kept is None else jax.tree.map(lambda a, b: write(a, b, t, 0), kept, new)
        return (after, h_BLN, kept), None

    u = [product("TBD,DM->TBM", x_TBD, kernel_DM, dtype) for kernel_DM in w.kernel]
    slices = (first + jnp.arange(len(x_TBD)), u, mask_TB, reset_TB)
    return jax.lax.scan(step, (state, h_BLN, kept), slices)[0]


def _room(cell: Cell, state, T: int):
    """The arrays for the values that the slopes need, for T tokens, not yet written."""
    z_BM = jnp.tile(state[0], len(cell.scale))
    _, kept = jax.eval_shape(cell.step, jnp.split(z_BM, cell.parts, axis=-1), z_BM, state)
    leaves, tree = jax.tree.flatten(kept)
    return tree.unflatten(_unwritten((T, *a.shape), a.dtype, i + 2) for i, a in enumerate(leaves))


def _unwritten(shape, dtype, number: int):
    """An array that is written before it is read. Give each its own number: XLA merges equal constants into one array
    and copies it."""
    return jnp.full(shape, number, dtype)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _run(cell: Cell, T: int, remat: bool, x_BLD, mask_BL, reset_BL, weights, state, initial):
    h_BLN, last, _ = _forward(cell, T, (x_BLD, mask_BL, reset_BL), weights, state, initial, keep=False)
    return h_BLN, last


def _forward(cell, T, inputs, weights, state, initial, keep):
    """h of every token, the last state, and the residuals: the first state of each chunk, and kept."""
    B, L, _ = inputs[0].shape
    w = _scaled(cell, weights)

    def chunk(carry, i):
        before, h_BLN, kept = carry
        return _tokens(cell, w, initial, before, cut(inputs, i, T), h_BLN, kept, i * T), before

    h_BLN = _unwritten((B, L, state[0].shape[-1]), state[0].dtype, 1)
    kept = _room(cell, state, L) if keep else None
    (last, h_BLN, kept), entries = jax.lax.scan(chunk, (state, h_BLN, kept), jnp.arange(L // T))
    return h_BLN, last, (entries, kept)


def _run_forward(cell, T, remat, x_BLD, mask_BL, reset_BL, weights, state, initial):
    inputs = (x_BLD, mask_BL, reset_BL)
    h_BLN, last, entries_and_kept = _forward(cell, T, inputs, weights, state, initial, keep=not remat)
    return (h_BLN, last), (inputs, h_BLN, entries_and_kept, weights, initial)


def _run_backward(cell, T, remat, residuals, cotangents):
    inputs, h_BLN, (entries, kept), weights, initial = residuals
    dh_BLN, dlast = cotangents
    B, L, _ = h_BLN.shape
    dtype = inputs[0].dtype
    back_MN = weights.recurrent.T.astype(dtype)  # transposed once: each product in the loop is a quarter faster
    w = _scaled(cell, weights)
    groups = shards(B)
    outer = lambda a_TBX, b_TBY: product("SKX,SKY->SXY", by_shard(a_TBX, groups), by_shard(b_TBY, groups), dtype)
    total = lambda a_TBX: jnp.sum(by_shard(a_TBX, groups), axis=1)

    def step(carry, slices):
        dstate, dinitial = carry
        dh_BN, slopes, mask_B, reset_B = slices
        dstate = (dstate[0] + dh_BN, *dstate[1:])
        direct, dz_BM, extra = cell.back(dstate, slopes)
        through_BN = product("BM,MN->BN", dz_BM, back_MN, dtype)
        before = choose(mask_B, (direct[0] + through_BN, *direct[1:]), dstate)
        if reset_B is not None:
            none = jax.tree.map(jnp.zeros_like, before)
            dinitial = jax.tree.map(jnp.add, dinitial, choose(reset_B, before, none))
            before = choose(reset_B, none, before)
        return (before, dinitial), (dz_BM, extra)

    def rest_of(entry, kept, mask_TB, reset_TB):
        def token(before, slices):
            keep, write, new, reset_B = slices
            before = before if reset_B is None else choose(reset_B, initial[1], before)
            after = keep * before + write * new
            return after, after

        if cell.rest is None:
            return ()
        keep, write, new = cell.rest(kept)
        if mask_TB is not None:
            keep, write = jnp.where(mask_TB[..., None], keep, 1), jnp.where(mask_TB[..., None], write, 0)
        return (jax.lax.scan(token, entry[1], (keep, write, new, reset_TB))[1],)

    def chunk(carry, slices):
        dstates, sums, dx_BLD = carry
        i, entry = slices
        x_TBD, mask_TB, reset_TB = now = cut(inputs, i, T)
        h_TBN, dh_TBN = cut((h_BLN, dh_BLN), i, T)
        if remat:
            _, _, here = _tokens(cell, w, initial, entry, now, None, _room(cell, entry, T), 0)
        else:
            here = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, i * T, T), kept)
        after = (h_TBN, *rest_of(entry, here, mask_TB, reset_TB))
        before = jax.tree.map(lambda e, a: jnp.concatenate([e[None], a[:-1]]), entry, after)
        if reset_TB is not None:
            before = choose(reset_TB, jax.tree.map(lambda i: i[None], initial), before)
        slopes = cell.slopes(here, before, after)
        if mask_TB is not None:
            slopes = jax.tree.map(lambda s: jnp.where(mask_TB[..., None], s, 0), slopes)
            dh_TBN = jnp.where(mask_TB[..., None], dh_TBN, 0)
        dstates, (dz_TBM, extra) = jax.lax.scan(step, dstates, (dh_TBN, slopes, mask_TB, reset_TB), reverse=True)
        du_TBM = cell.input(dz_TBM, extra)
        parts = Weights(
            outer(x_TBD, du_TBM),
            outer(before[0], dz_TBM),
            total(du_TBM),
            None if weights.recurrent_bias is None else total(dz_TBM),
        )
        dx_TBD = product("TBM,DM->TBD", du_TBM, weights.kernel, dtype)
        return (dstates, jax.tree.map(jnp.add, sums, parts), paste(dx_BLD, dx_TBD, i)), None

    sums = jax.tree.map(lambda a: jnp.zeros((groups, *a.shape), a.dtype), weights)
    start = ((dlast, jax.tree.map(jnp.zeros_like, initial)), sums, jnp.zeros_like(inputs[0]))
    slices = (jnp.arange(L // T), entries)
    ((dstate, dinitial), sums, dx_BLD), _ = jax.lax.scan(chunk, start, slices, reverse=True)
    return dx_BLD, None, None, jax.tree.map(lambda a: jnp.sum(a, axis=0), sums), dstate, dinitial


_run.defvjp(_run_forward, _run_backward)
