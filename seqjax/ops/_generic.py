"""Any cell over time, differentiated by autodiff token by token. `_recurrence` does it by hand for classical cells.

A cell is a pure function of one token that multiplies by weights only through its argument `dot`. So this engine sees
each product: the forward pass keeps its result, and the backward pass computes the gradient of the weight for a whole
chunk of tokens at once, outside the loop over time. Chunks, masks and resets are those of `_chunks`.
"""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from seqjax import masks
from seqjax.ops import dense
from seqjax.ops._chunks import by_shard, choose, cut, in_chunks, paste, shards
from seqjax.ops._product import wide


def recur(
    step: Callable,
    u_BLX: dict,
    weights: dict,
    rows: dict,
    state: tuple,
    initial: tuple,
    mask_BL=None,
    reset_BL=None,
    *,
    dtype="float32",
    remat=False,
):
    """Runs a cell over a sequence: -> h of every token, (B, L, ...), zero where masked, and the last state.

    Args:
      step: (u, state, dot, rows) -> state, a pure, hashable function of one token. `dot(name, a)` is a times
        `weights[name]`; call it once per name. The first entry of a state is h.
      u_BLX: a dict of the inputs of each token, (B, L, ...).
      weights: a dict of (K, M) matrices, (H, K, M) blocks of a block-diagonal matrix (the product is (B, H, M)), or
        (height, width, C, M) kernels of a convolution over (B, height, width, C), padded to keep its size.
      rows: a dict of arrays (B, ...) that are the same for all tokens.
      state, initial: tuples of (B, ...): the state before the first token, and the state after a reset.
      mask_BL, reset_BL: as in a mixer.
      dtype: the dtype of the operands of the products.
      remat: keep only one state per chunk, and run each chunk a second time in the backward pass.

    Raises:
      ValueError: the step calls `dot` twice with the same name.
    """
    L = jax.tree.leaves(u_BLX)[0].shape[1]
    T, inputs = in_chunks(u_BLX, mask_BL, reset_BL)
    h_BLX, state = _recur(step, T, str(dtype), remat, *inputs, weights, rows, state, initial)
    return masks.fill(h_BLX[:, :L], mask_BL), state


@dataclasses.dataclass(frozen=True)
class Zoneout:
    """A step that mixes old and new values in the first entries of a state: old + share * (after - old).

    The field `new` holds one share per entry. In training, `u["new"]` replaces it: shares of 0 or 1, drawn per unit.
    Krueger et al. 2016, arXiv:1606.01305.
    """

    step: Callable
    new: tuple[float, ...]

    def __call__(self, u, state, dot, rows):
        after = self.step(u, state, dot, rows)
        shares = u.get("new", self.new)
        mixed = [old + share * (new - old) for old, new, share in zip(state, after, shares, strict=False)]
        return (*mixed, *after[len(mixed) :])


@dataclasses.dataclass(frozen=True)
class Variational:
    """A step whose recurrent products use h times `rows["drop"]`, one dropout mask for all tokens of a row.

    Gal and Ghahramani 2016, arXiv:1512.05287.
    """

    step: Callable

    def __call__(self, u, state, dot, rows):
        dropped = lambda name, a: dot(name, a if name == "projection" else a * rows["drop"])
        return self.step(u, state, dropped, rows)


def product(a_BX, w, dtype):
    """a times w; the rank of w selects the product (see `recur`). Operands in `dtype`, the result at least float32."""
    if w.ndim == 4:  # as a matrix product: unlike a convolution's, its gradients need no exchange between devices
        a_BX, w = _patches(a_BX, *w.shape[:2]), w.reshape(-1, w.shape[-1])
    if w.ndim == 3:
        a_BX = a_BX.reshape(a_BX.shape[0], *w.shape[:2])
    rows = "ABCDEF"[: a_BX.ndim - 1]
    equation = "BHK,HKM->BHM" if w.ndim == 3 else f"{rows}K,KM->{rows}M"
    return dense.einsum(equation, a_BX, w, dtype, out=wide(dtype))


def _patches(a_BHWC, height: int, width: int):
    """The inputs of a convolution at each position: (B, H, W, height * width * C), zeros beyond the edge."""
    edge = lambda size: ((size - 1) // 2, size // 2)
    padded = jnp.pad(a_BHWC, [(0, 0), edge(height), edge(width), (0, 0)])
    H, W = a_BHWC.shape[1:3]
    shifted = [padded[:, i : i + H, j : j + W] for i in range(height) for j in range(width)]
    return jnp.concatenate(shifted, axis=-1)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _known(dtype, a_BX, w, g_BX):
    """The product of a and w, already computed as g; differentiated only with respect to a."""
    return g_BX


def _known_backward(dtype, residuals, dg_BX):
    a_BX, w = residuals
    _, pull = jax.vjp(lambda a: product(a, w, dtype), a_BX)
    return *pull(dg_BX), None, None


_known.defvjp(lambda dtype, a, w, g: (g, (a, w)), _known_backward)


def _tokens(step, weights, rows, initial, dtype, state, inputs, keep):
    """One chunk forward: -> the state after it; h of every token, and if `keep` also all states and products."""

    def token(before, slices):
        u, mask_B, reset_B = slices
        before, known = before if reset_B is None else choose(reset_B, initial, before), {}

        def dot(name, a):
            if name in known:
                raise ValueError(f"a cell calls dot({name!r}) twice: give each product a weight with its own name.")
            known[name] = product(a, weights[name], dtype)
            return known[name]

        after = choose(mask_B, step(u, before, dot, rows), before)
        return after, (after[0], (after, known) if keep else None)

    return jax.lax.scan(token, state, inputs)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3))
def _recur(step, T, dtype, remat, u_BLX, mask_BL, reset_BL, weights, rows, state, initial):
    return _forward(step, T, dtype, True, u_BLX, mask_BL, reset_BL, weights, rows, state, initial)[0]


def _forward(step, T, dtype, remat, u_BLX, mask_BL, reset_BL, weights, rows, state, initial):
    """((h, last state), the residuals for the backward pass)."""
    inputs = (u_BLX, mask_BL, reset_BL)
    B, L = jax.tree.leaves(u_BLX)[0].shape[:2]

    def chunk(carry, i):
        before, h_BLX = carry
        after, (h_TBX, kept) = _tokens(step, weights, rows, initial, dtype, before, cut(inputs, i, T), not remat)
        return (after, paste(h_BLX, h_TBX, i)), (before, kept)

    h_BLX = jnp.zeros((B, L, *state[0].shape[1:]), state[0].dtype)
    (last, h_BLX), chunks = jax.lax.scan(chunk, (state, h_BLX), jnp.arange(L // T))
    return (h_BLX, last), (inputs, weights, rows, initial, chunks)


def _backward(step, T, dtype, remat, residuals, cotangents):
    inputs, weights, rows, initial, (entries, kept) = residuals
    dh_BLX, dlast = cotangents
    B, L = dh_BLX.shape[:2]
    groups = shards(B)
    zeros = partial(jax.tree.map, jnp.zeros_like)

    def token(carry, slices):
        dstate, dinitial, drows = carry
        dh_BX, u, before, known, mask_B, reset_B = slices
        dstate = (dstate[0] + dh_BX, *dstate[1:])

        def again(u, before, rows, shift):
            seen = {}

            def dot(name, a):
                seen[name] = a
                return _known(dtype, a, weights[name], known[name]) + shift[name]

            return step(u, before, dot, rows), seen

        _, pull, seen = jax.vjp(again, u, before, rows, zeros(known), has_aux=True)
        du, dbefore, drow, dknown = pull(choose(mask_B, dstate, zeros(dstate)))
        dbefore = choose(mask_B, dbefore, dstate)
        drows = jax.tree.map(jnp.add, drows, drow)
        if reset_B is not None:
            dinitial = jax.tree.map(jnp.add, dinitial, choose(reset_B, dbefore, zeros(dbefore)))
            dbefore = choose(reset_B, zeros(dbefore), dbefore)
        return (dbefore, dinitial, drows), (du, seen, dknown)

    def gradient(a_TBX, g_TBX, w):
        """The gradient of a weight, per group of rows (`shards`), from all tokens of a chunk in one product."""
        of = lambda a, g: jax.vjp(lambda w: product(a, w, dtype), w)[1](g)[0]
        return jax.vmap(of)(by_shard(a_TBX, groups), by_shard(g_TBX, groups))

    def chunk(carry, slices):
        start, sums, du_BLX = carry
        i, entry, kept = slices
        u, mask_TB, reset_TB = now = cut(inputs, i, T)
        if remat:
            _, (_, kept) = _tokens(step, weights, rows, initial, dtype, entry, now, True)
        after, known = kept
        before = jax.tree.map(lambda e, a: jnp.concatenate([e[None], a[:-1]]), entry, after)
        if reset_TB is not None:
            before = choose(reset_TB, jax.tree.map(lambda i: i[None], initial), before)
        slices = (cut(dh_BLX, i, T), u, before, known, mask_TB, reset_TB)
        start, (du, seen, dknown) = jax.lax.scan(token, start, slices, reverse=True)
        sums = {name: sums[name] + gradient(seen[name], dknown[name], w) for name, w in weights.items()}
        return (start, sums, jax.tree.map(lambda d, part: paste(d, part, i), du_BLX, du)), None

    sums = jax.tree.map(lambda w: jnp.zeros((groups, *w.shape), w.dtype), weights)
    start = ((dlast, zeros(initial), zeros(rows)), sums, zeros(inputs[0]))
    slices = (jnp.arange(L // T), entries, kept)
    ((dstate, dinitial, drows), sums, du_BLX), _ = jax.lax.scan(chunk, start, slices, reverse=True)
    return du_BLX, None, None, jax.tree.map(lambda a: jnp.sum(a, axis=0), sums), drows, dstate, dinitial


_recur.defvjp(_forward, _backward)
