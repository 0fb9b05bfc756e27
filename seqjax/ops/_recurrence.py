"""The engine under the classical cells: a recurrence over time with a backward pass written by hand.

Plain autodiff of a scan multiplies by the weights, and adds up their gradients, once per token. Here only what depends
on the carried state stays in the scan:

    forward    input projections for a chunk of tokens in one product; per token one product with the recurrent
               kernel, and one tanh for all gates: sigmoid(z) = tanh(z / 2) / 2 + 1 / 2, the halves folded into the
               weights.
    backward   all local slopes of a chunk in bulk, from the gates that were kept; per token one product with the
               transposed kernel; then the gradients of the weights and of the input, one product each.

Work goes chunk by chunk, so that temporaries stay in the cache and memory is little more than states and gates.
Arrays are time-major inside: T tokens of a chunk, B rows, M = gates * N.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax import masks
from seqjax.ops._product import product


class Cell(NamedTuple):
    """One step of a recurrence and its derivative, in three pieces. `state` is a tuple whose first entry is h.

    scale: per gate, the factor in front of z inside the cell's tanh.
    parts: into how many arrays u is cut before the loop. (A fused loop on XLA's CPU that slices u and takes the tanh
      of a tanh is not vectorised, and half as fast as one on whole arrays; one tanh over all gates is best uncut.)
    step: (u, g_BM, state) -> (state, kept); u (its parts) and g are the scaled input and recurrent parts of z, kept
      is what the slopes need.
    rest: (kept, rest of the state before) -> rest of the state after h, one token, from what was kept.
    slopes: (kept, before, after) -> slopes, for all tokens of a chunk.
    back: (dstate, slopes) -> (what of dstate reaches the state before directly, dz_BM through the recurrent kernel,
      extra), one token.
    input: (dz_TBM, extra) -> dz_TBM through the input kernel.
    """

    scale: tuple[float, ...]
    parts: int
    step: Callable
    rest: Callable
    slopes: Callable
    back: Callable
    input: Callable


class Weights(NamedTuple):
    """input kernel (D, M), recurrent kernel (N, M), bias (M,) of the input part and (M,) of the recurrent part."""

    kernel: Any
    recurrent: Any
    bias: Any
    recurrent_bias: Any


def run(cell: Cell, x_BLD, weights: Weights, state: tuple, initial: tuple, mask_BL=None, reset_BL=None, remat=False):
    """The cell over a sequence: h of every token (B, L, N) in the state's dtype, zero where masked, and the last state.

    A masked token leaves the state alone; a reset (on a real token) puts `initial` before it. `remat` keeps one state
    per chunk instead of every gate, and runs each chunk a second time on the way back.
    """
    T, inputs = in_chunks(x_BLD, mask_BL, reset_BL)
    h_BLN, state = _run(cell, T, remat, *inputs, weights, state, initial)
    return masks.fill(h_BLN[:, : x_BLD.shape[1]], mask_BL), state


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


def shards(B: int) -> int:
    """Into how many groups the rows fall, one per device if all the batch is spread over all devices.

    Gradients of weights are added up per group, and over groups at the end: devices talk once, not once per chunk.
    """
    manual = jax.sharding.get_abstract_mesh().manual_axes  # pmap, shard_map: the rows of one device
    return 1 if manual else math.gcd(B, jax.device_count())


def _scaled(cell: Cell, weights: Weights) -> Weights:
    scale_M = jnp.repeat(jnp.array(cell.scale, weights.kernel.dtype), weights.kernel.shape[1] // len(cell.scale))
    return Weights(
        weights.kernel * scale_M[None],
        weights.recurrent * scale_M[None],
        weights.bias * scale_M,
        weights.recurrent_bias,
    )


def _tokens(cell: Cell, w: Weights, initial, state, inputs, keep: bool):
    """One chunk forward, weights scaled: the state after it, h of every token, and if `keep` what slopes need."""
    x_TBD, mask_TB, reset_TB = inputs
    dtype = x_TBD.dtype

    def step(before, slices):
        u, mask_B, reset_B = slices
        before = before if reset_B is None else choose(reset_B, initial, before)
        g_BM = product("BN,NM->BM", before[0], w.recurrent, dtype)
        if w.recurrent_bias is not None:
            g_BM = g_BM + w.recurrent_bias[None]
        after, kept = cell.step(u, g_BM, before)
        after = choose(mask_B, after, before)
        return after, (after[0], kept if keep else None)

    u_TBM = product("TBD,DM->TBM", x_TBD, w.kernel, dtype) + w.bias[None, None]
    return jax.lax.scan(step, state, (jnp.split(u_TBM, cell.parts, axis=-1), mask_TB, reset_TB))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _run(cell: Cell, T: int, remat: bool, x_BLD, mask_BL, reset_BL, weights, state, initial):
    h_BLN, last, _ = _forward(cell, T, (x_BLD, mask_BL, reset_BL), weights, state, initial, keep=False)
    return h_BLN, last


def _forward(cell, T, inputs, weights, state, initial, keep):
    """h of every token, the last state, and per chunk its first state and what the slopes need."""
    B, L, _ = inputs[0].shape
    w = _scaled(cell, weights)

    def chunk(carry, i):
        before, h_BLN = carry
        after, (h_TBN, kept) = _tokens(cell, w, initial, before, cut(inputs, i, T), keep)
        return (after, paste(h_BLN, h_TBN, i)), (before, kept)

    h_BLN = jnp.zeros((B, L, state[0].shape[-1]), state[0].dtype)
    (last, h_BLN), entries_and_kept = jax.lax.scan(chunk, (state, h_BLN), jnp.arange(L // T))
    return h_BLN, last, entries_and_kept


def _run_forward(cell, T, remat, x_BLD, mask_BL, reset_BL, weights, state, initial):
    inputs = (x_BLD, mask_BL, reset_BL)
    h_BLN, last, entries_and_kept = _forward(cell, T, inputs, weights, state, initial, keep=not remat)
    return (h_BLN, last), (inputs, h_BLN, entries_and_kept, weights, initial)


def _run_backward(cell, T, remat, residuals, cotangents):
    inputs, h_BLN, (entries, kept), weights, initial = residuals
    dh_BLN, dlast = cotangents
    B, L, _ = h_BLN.shape
    dtype = inputs[0].dtype
    back_MN = weights.recurrent.T.astype(dtype)  # turned round once: each product in the loop is a quarter faster
    w = _scaled(cell, weights)
    groups = shards(B)
    group = lambda a_TBX: a_TBX.reshape(T, groups, -1, a_TBX.shape[-1])
    outer = lambda a_TBX, b_TBY: product("TSRX,TSRY->SXY", group(a_TBX), group(b_TBY), dtype)

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
            kept, mask_B, reset_B = slices
            before = before if reset_B is None else choose(reset_B, initial[1:], before)
            after = choose(mask_B, cell.rest(kept, before), before)
            return after, after

        return jax.lax.scan(token, entry[1:], (kept, mask_TB, reset_TB))[1] if entry[1:] else ()

    def chunk(carry, slices):
        dstates, sums, dx_BLD = carry
        i, entry, kept = slices
        x_TBD, mask_TB, reset_TB = now = cut(inputs, i, T)
        h_TBN, dh_TBN = cut((h_BLN, dh_BLN), i, T)
        if remat:
            _, (h_TBN, kept) = _tokens(cell, w, initial, entry, now, keep=True)
        after = (h_TBN, *rest_of(entry, kept, mask_TB, reset_TB))
        before = jax.tree.map(lambda e, a: jnp.concatenate([e[None], a[:-1]]), entry, after)
        if reset_TB is not None:
            before = choose(reset_TB, jax.tree.map(lambda i: i[None], initial), before)
        slopes = cell.slopes(kept, before, after)
        if mask_TB is not None:
            slopes = jax.tree.map(lambda s: jnp.where(mask_TB[..., None], s, 0), slopes)
            dh_TBN = jnp.where(mask_TB[..., None], dh_TBN, 0)
        dstates, (dz_TBM, extra) = jax.lax.scan(step, dstates, (dh_TBN, slopes, mask_TB, reset_TB), reverse=True)
        du_TBM = cell.input(dz_TBM, extra)
        parts = Weights(
            outer(x_TBD, du_TBM),
            outer(before[0], dz_TBM),
            jnp.sum(group(du_TBM), axis=(0, 2)),
            None if weights.recurrent_bias is None else jnp.sum(group(dz_TBM), axis=(0, 2)),
        )
        dx_TBD = product("TBM,DM->TBD", du_TBM, weights.kernel, dtype)
        return (dstates, jax.tree.map(jnp.add, sums, parts), paste(dx_BLD, dx_TBD, i)), None

    sums = jax.tree.map(lambda a: jnp.zeros((groups, *a.shape), a.dtype), weights)
    start = ((dlast, jax.tree.map(jnp.zeros_like, initial)), sums, jnp.zeros_like(inputs[0]))
    slices = (jnp.arange(L // T), entries, kept)
    ((dstate, dinitial), sums, dx_BLD), _ = jax.lax.scan(chunk, start, slices, reverse=True)
    return dx_BLD, None, None, jax.tree.map(lambda a: jnp.sum(a, axis=0), sums), dstate, dinitial


_run.defvjp(_run_forward, _run_backward)
