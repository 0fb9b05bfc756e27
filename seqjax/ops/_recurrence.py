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


class Cell(NamedTuple):
    """One step of a recurrence and its derivative, in three pieces. `state` is a tuple whose first entry is h.

    scale: per gate, the factor in front of z inside the cell's tanh.
    step: (u_BM, g_BM, state) -> (state, kept); u and g are the scaled input and recurrent parts of z, kept is what
      the slopes need.
    slopes: (kept, before, after) -> slopes, for all tokens of a chunk.
    back: (dstate, slopes) -> (what of dstate reaches the state before directly, dz_BM through the recurrent kernel,
      extra), one token.
    input: (dz_TBM, extra) -> dz_TBM through the input kernel.
    """

    scale: tuple[float, ...]
    step: Callable
    slopes: Callable
    back: Callable
    input: Callable


class Weights(NamedTuple):
    """input kernel (D, M), recurrent kernel (N, M), bias (M,) of the input part and (M,) of the recurrent part."""

    kernel: Any
    recurrent: Any
    bias: Any
    recurrent_bias: Any


def run(cell: Cell, x_BLD, weights: Weights, state: tuple, initial: tuple, mask_BL=None, reset_BL=None):
    """The cell over a sequence: h of every token (B, L, N) in the state's dtype, zero where masked, and the last state.

    A masked token leaves the state alone; a reset (on a real token) puts `initial` before it.
    """
    B, L, _ = x_BLD.shape
    # About 512 rows in each product of a chunk; chunks as equal as can be, so that the filling-up stays short.
    chunks = math.ceil(L / max(512 // B, 8))
    T = math.ceil(L / chunks)
    spare = chunks * T - L
    if spare and mask_BL is None:
        mask_BL = jnp.ones((B, L), bool)
    if reset_BL is not None and mask_BL is not None:
        reset_BL = reset_BL & mask_BL

    def cut(a_BLX):
        a_BLX = jnp.pad(a_BLX, [(0, 0), (0, spare)] + [(0, 0)] * (a_BLX.ndim - 2))
        return jnp.swapaxes(a_BLX, 0, 1).reshape(chunks, T, B, *a_BLX.shape[2:])

    inputs = jax.tree.map(cut, (x_BLD, mask_BL, reset_BL))
    h_CTBN, state = _run(cell, *inputs, weights, state, initial)
    h_BLN = jnp.swapaxes(h_CTBN.reshape(chunks * T, B, -1), 0, 1)[:, :L]
    return masks.fill(h_BLN, mask_BL), state


def _choose(flag_XB, yes, no):
    """yes where the flag is set, else no; pytrees of (..., B, N). No flag: yes."""
    return yes if flag_XB is None else jax.tree.map(lambda y, n: jnp.where(flag_XB[..., None], y, n), yes, no)


def _product(equation: str, a, b, dtype):
    """einsum with operands in `dtype`, in float32 at least."""
    wide = jnp.promote_types(dtype, jnp.float32)
    return jnp.einsum(equation, a.astype(dtype), b.astype(dtype), preferred_element_type=wide)


def _scaled(cell: Cell, weights: Weights) -> Weights:
    scale_M = jnp.repeat(jnp.array(cell.scale, weights.kernel.dtype), weights.kernel.shape[1] // len(cell.scale))
    return Weights(
        weights.kernel * scale_M[None],
        weights.recurrent * scale_M[None],
        weights.bias * scale_M,
        weights.recurrent_bias,
    )


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _run(cell: Cell, x_CTBD, mask_CTB, reset_CTB, weights, state, initial):
    (h_CTBN, _), last = _forward(cell, x_CTBD, mask_CTB, reset_CTB, weights, state, initial, keep=False)
    return h_CTBN, last


def _forward(cell, x_CTBD, mask_CTB, reset_CTB, weights, state, initial, keep):
    """h of every token (and if `keep` the rest of the state, and what the slopes need), and the last state."""
    dtype, w = x_CTBD.dtype, _scaled(cell, weights)

    def step(before, slices):
        u_BM, mask_B, reset_B = slices
        before = before if reset_B is None else _choose(reset_B, initial, before)
        g_BM = _product("BN,NM->BM", before[0], w.recurrent, dtype)
        if w.recurrent_bias is not None:
            g_BM = g_BM + w.recurrent_bias[None]
        after, kept = cell.step(u_BM, g_BM, before)
        after = _choose(mask_B, after, before)
        return after, (after[0], (after[1:], kept) if keep else None)

    def chunk(state, slices):
        x_TBD, mask_TB, reset_TB = slices
        u_TBM = _product("TBD,DM->TBM", x_TBD, w.kernel, dtype) + w.bias[None, None]
        return jax.lax.scan(step, state, (u_TBM, mask_TB, reset_TB))

    last, out = jax.lax.scan(chunk, state, (x_CTBD, mask_CTB, reset_CTB))
    return out, last


def _run_forward(cell, x_CTBD, mask_CTB, reset_CTB, weights, state, initial):
    (h_CTBN, (rest, kept)), last = _forward(cell, x_CTBD, mask_CTB, reset_CTB, weights, state, initial, keep=True)
    return (h_CTBN, last), (x_CTBD, mask_CTB, reset_CTB, weights, state, initial, (h_CTBN, *rest), kept)


def _run_backward(cell, residuals, cotangents):
    x_CTBD, mask_CTB, reset_CTB, weights, state, initial, states, kept = residuals
    dh_CTBN, dlast = cotangents
    dtype = x_CTBD.dtype
    # The state before the first token of each chunk.
    entries = jax.tree.map(lambda first, s: jnp.concatenate([first[None], s[:-1, -1]]), state, states)

    def step(carry, slices):
        dstate, dinitial = carry
        dh_BN, slopes, mask_B, reset_B = slices
        dstate = (dstate[0] + dh_BN, *dstate[1:])
        direct, dz_BM, extra = cell.back(dstate, slopes)
        through_BN = _product("BM,NM->BN", dz_BM, weights.recurrent, dtype)
        before = _choose(mask_B, (direct[0] + through_BN, *direct[1:]), dstate)
        if reset_B is not None:
            none = jax.tree.map(jnp.zeros_like, before)
            dinitial = jax.tree.map(jnp.add, dinitial, _choose(reset_B, before, none))
            before = _choose(reset_B, none, before)
        return (before, dinitial), (dz_BM, extra)

    def chunk(carry, slices):
        dstates, sums = carry
        x_TBD, mask_TB, reset_TB, entry, after, kept, dh_TBN = slices
        before = jax.tree.map(lambda e, a: jnp.concatenate([e[None], a[:-1]]), entry, after)
        if reset_TB is not None:
            before = _choose(reset_TB, jax.tree.map(lambda i: i[None], initial), before)
        slopes = cell.slopes(kept, before, after)
        if mask_TB is not None:
            slopes = jax.tree.map(lambda s: jnp.where(mask_TB[..., None], s, 0), slopes)
            dh_TBN = jnp.where(mask_TB[..., None], dh_TBN, 0)
        dstates, (dz_TBM, extra) = jax.lax.scan(step, dstates, (dh_TBN, slopes, mask_TB, reset_TB), reverse=True)
        du_TBM = cell.input(dz_TBM, extra)
        parts = Weights(
            _product("TBD,TBM->DM", x_TBD, du_TBM, dtype),
            _product("TBN,TBM->NM", before[0], dz_TBM, dtype),
            jnp.sum(du_TBM, axis=(0, 1)),
            None if weights.recurrent_bias is None else jnp.sum(dz_TBM, axis=(0, 1)),
        )
        dx_TBD = _product("TBM,DM->TBD", du_TBM, weights.kernel, dtype).astype(dtype)
        return (dstates, jax.tree.map(jnp.add, sums, parts)), dx_TBD

    zeros = partial(jax.tree.map, jnp.zeros_like)
    start = ((dlast, zeros(initial)), zeros(weights))
    slices = (x_CTBD, mask_CTB, reset_CTB, entries, states, kept, dh_CTBN)
    ((dstate, dinitial), dweights), dx_CTBD = jax.lax.scan(chunk, start, slices, reverse=True)
    return dx_CTBD, None, None, dweights, dstate, dinitial


_run.defvjp(_run_forward, _run_backward)
