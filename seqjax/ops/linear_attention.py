"""Linear attention: a weighted mean of all values so far, from sums of fixed size.

Softmax attention must read every earlier key again for each query. If the weight of a key is a product of features,
w(q, k) = phi(q) . phi(k), the sums over keys do not depend on the query, and one pass can carry them along. Here that
pass goes chunk by chunk: it computes a small matrix of weights between the tokens of a chunk, and uses the sums for all
earlier tokens.
"""

import math
from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import masks
from seqjax.ops import ring
from seqjax.ops._product import product, wide

Kernel = Literal["product", "taylor"]
CHUNK = 64  # the fastest of 32, 64, 128 and 256, or within 15 % of it, for 16 to 153 features on a CPU
LEAST = 1e-18  # the least total of weights: gradients need the square of its inverse, which must fit into float32


def attend(q_BLHE, k_BLHE, v_BLHK, state, mask_BL=None, reset_BL=None, kernel: Kernel = "product", chunk: int = CHUNK):
    """The mean of all values so far, weighted by w(q, k). Returns y (B, L, H, K) in the dtype of q, and the last state.

        S_t = S_{t-1} + phi(k_t) v_t^T,   z_t = z_{t-1} + phi(k_t)
        y_t = phi(q_t)^T S_t / phi(q_t)^T z_t

    A masked token does not change the state and gets zeros. A query whose total weight is at most 1e-18 gets zeros.
    Neither passes a gradient. A reset (on a real token) sets the state before it to zero. Operands of products have the
    dtype of q; sums, states and weights are float32. Memory use is linear in L; the backward pass keeps one state per
    chunk and computes the rest again. If the mesh splits sequences (`seqjax.ops.ring`), each device first sums the
    contributions of its own keys, and devices exchange only these sums.

    Args:
      q_BLHE, k_BLHE, v_BLHK: queries, keys and values.
      state: (S, z), (B, H, F, K) and (B, H, F); zeros at the start.
      mask_BL, reset_BL: bool, as in a mixer.
      kernel: "product": w = q . k, where q and k are already features (F = E) and not negative. "taylor":
        w = 1 + q . k + (q . k)^2 / 2, whose F = 1 + E + E (E + 1) / 2 features exist for one chunk at a time.
      chunk: tokens per chunk, at most. It changes only the speed; 1 gives the recurrence above, token by token.

    Raises:
      ValueError: the kernel is unknown, a mask has the wrong shape, or the length cannot be split over devices.

    Katharopoulos et al. 2020, arXiv:2006.16236; in chunks: Hua et al. 2022, arXiv:2202.10447.
    """
    if kernel not in get_args(Kernel):
        raise ValueError(f"kernel={kernel!r}; choose from {', '.join(get_args(Kernel))}.")
    B, L, _, _ = q_BLHE.shape
    masks.check(reset_BL, (B, L), "reset_BL")
    q_BLHE, k_BLHE, v_BLHK = (masks.fill(a, mask_BL) for a in (q_BLHE, k_BLHE, v_BLHK))
    fresh_BL = reset_BL if reset_BL is None or mask_BL is None else reset_BL & mask_BL
    state = jax.tree.map(lambda a: a.astype(wide(q_BLHE.dtype)), state)
    if ring.devices(L) == 1:
        state, y_BLHK = _through(partial(_chunk, kernel), chunk, state, (q_BLHE, k_BLHE, v_BLHK), mask_BL, fresh_BL)
    else:
        state, y_BLHK = _over_devices(kernel, chunk, state, (q_BLHE, k_BLHE, v_BLHK), mask_BL, fresh_BL)
    return masks.fill(y_BLHK, mask_BL), state


def _over_devices(kernel, chunk, state, tokens, mask_BL, fresh_BL):
    """`_through` over devices: each reports what its keys add to the sums, and whether the older sums stay."""
    dtype = tokens[0].dtype

    def ends(k_BTHE, v_BTHK, real_BT, fresh_BT):
        zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), state)
        own, _ = _through(partial(_written, kernel, dtype), chunk, zeros, (k_BTHE, v_BTHK), real_BT, fresh_BT)
        keeps_B = jnp.ones(len(k_BTHE), bool) if fresh_BT is None else ~fresh_BT.any(axis=1)
        keeps = lambda a_BX: keeps_B.reshape(-1, *(1,) * (a_BX.ndim - 1)).astype(a_BX.dtype)
        return jax.tree.map(lambda a: a[:, None], (jax.tree.map(keeps, own), own))

    def read(tokens, real_BT, fresh_BT, before):
        before = jax.tree.map(lambda a: a[:, 0], before)
        return _through(partial(_chunk, kernel), chunk, before, tokens, real_BT, fresh_BT)[1]

    before, state = ring.between(*ring.by_chunk(ends, *tokens[1:], mask_BL, fresh_BL), state)
    return state, ring.by_chunk(read, tokens, mask_BL, fresh_BL, before)


def _through(step, chunk, state, tokens, mask_BL, fresh_BL):
    """The state after all chunks of tokens, and the outputs of `step(state, (tokens, real, fresh))` for each token."""
    B, L, H, _ = tokens[0].shape
    count = math.ceil(L / chunk)
    T = math.ceil(L / count)
    real_BL = jnp.ones((B, L), bool) if mask_BL is None and count * T > L else mask_BL

    def cut(a_BLX):
        """(B, L, ...) -> chunks as the first axis; the last one is padded with masked tokens."""
        a_BLX = jnp.pad(a_BLX, [(0, 0), (0, count * T - L)] + [(0, 0)] * (a_BLX.ndim - 2))
        return jnp.moveaxis(a_BLX.reshape(B, count, T, *a_BLX.shape[2:]), 1, 0)

    # Heads before tokens: XLA on a CPU has no bfloat16 product for some other layouts.
    heads_first = lambda a_CBTHX: jnp.swapaxes(a_CBTHX, 2, 3)
    slices = tuple(heads_first(cut(a)) for a in tokens), *jax.tree.map(cut, (real_BL, fresh_BL))
    # Without checkpoint, autodiff would keep the weights of every chunk. (A hand-written backward pass is no faster.)
    state, y_CBHTK = jax.lax.scan(jax.checkpoint(step, prevent_cse=False), state, slices)
    join = lambda y_CBHTK: jnp.moveaxis(heads_first(y_CBHTK), 0, 1).reshape(B, count * T, H, -1)[:, :L]
    return state, jax.tree.map(join, y_CBHTK)


def taylor(x_XE):
    """phi with phi(q) . phi(k) = 1 + q . k + (q . k)^2 / 2: the features 1, x, and each product x_i x_j once. (..., F).

    The square contains x_i x_j twice for i < j, so one feature x_i x_j covers both; x_i^2 becomes x_i^2 / sqrt(2).
    """
    E = x_XE.shape[-1]
    left, right = np.triu_indices(E)
    # A product picks the columns: a gather, with a scatter as its gradient, is slower by half.
    eye = np.eye(E, dtype=x_XE.dtype)
    pick = partial(jnp.einsum, "...E,EF->...F", x_XE, precision="highest")
    square_XF = pick(eye[:, left] * np.where(left == right, 0.5**0.5, 1).astype(x_XE.dtype)) * pick(eye[:, right])
    return jnp.concatenate([jnp.ones_like(x_XE[..., :1]), x_XE, square_XF], axis=-1)


def _chunk(kernel, state, slices):
    """One chunk of T tokens: -> the state after it, and y."""
    S_BHFK, z_BHF = state
    (q_BHTE, k_BHTE, v_BHTK), real_BT, fresh_BT = slices
    dtype, T = q_BHTE.dtype, q_BHTE.shape[2]
    segment_BT = masks.segments((1, T), None, fresh_BT)
    tokens = masks.Places(segment_BL=segment_BT)
    allowed_BTS = masks.visible(tokens, tokens._replace(mask_BL=real_BT), T, T, masks.Pattern(causal=True))
    to_BHTX = lambda flag_BT: flag_BT[:, None, :, None]

    weight_BHTS = product("BHTE,BHSE->BHTS", q_BHTE, k_BHTE, dtype)
    if kernel == "taylor":
        weight_BHTS = 1 + weight_BHTS + weight_BHTS**2 / 2
    phi_q_BHTF = _features(kernel, dtype, q_BHTE)
    weight_BHTS = jnp.where(allowed_BTS[:, None], weight_BHTS, 0)
    phi_q_BHTF = jnp.where(to_BHTX(segment_BT == 0), phi_q_BHTF, 0)

    total_BHT = jnp.sum(weight_BHTS, axis=-1) + jnp.einsum("BHTF,BHF->BHT", phi_q_BHTF, z_BHF)
    share_BHT1 = jnp.where(total_BHT > LEAST, 1 / jnp.maximum(total_BHT, LEAST), 0)[..., None]
    # Shares, not weights, are cast to the dtype: they are at most 1, but weights can exceed the range of float16.
    y_BHTK = product("BHTS,BHSK->BHTK", weight_BHTS * share_BHT1, v_BHTK, dtype)
    scaled_BHFK, scale_BH11 = _scaled(S_BHFK, dtype)
    y_BHTK += product("BHTF,BHFK->BHTK", phi_q_BHTF, scaled_BHFK, dtype) * (share_BHT1 * scale_BH11)

    state, _ = _written(kernel, dtype, state, (slices[0][1:], *slices[1:]))
    return state, y_BHTK.astype(dtype)


def _written(kernel, dtype, state, slices):
    """One chunk of T tokens: -> the state after it, and None for y."""
    (S_BHFK, z_BHF), ((k_BHTE, v_BHTK), real_BT, fresh_BT) = state, slices
    phi_k_BHTF = _features(kernel, dtype, k_BHTE)
    segment_BT = masks.segments((1, k_BHTE.shape[2]), None, fresh_BT)
    to_BHTX = lambda flag_BT: flag_BT[:, None, :, None]
    newest_B1 = segment_BT[:, -1:]
    stays_BT = segment_BT == newest_B1 if real_BT is None else real_BT & (segment_BT == newest_B1)
    phi_k_BHTF = jnp.where(to_BHTX(stays_BT), phi_k_BHTF, 0)
    old_B111 = to_BHTX(newest_B1 == 0)
    S_BHFK = jnp.where(old_B111, S_BHFK, 0) + product("BHTF,BHTK->BHFK", phi_k_BHTF, v_BHTK, dtype)
    z_BHF = jnp.where(old_B111[..., 0], z_BHF, 0) + jnp.sum(phi_k_BHTF, axis=2)
    return (S_BHFK, z_BHF), None


def _features(kernel, dtype, x_BHTE):
    x_BHTE = x_BHTE.astype(wide(dtype))
    return taylor(x_BHTE) if kernel == "taylor" else x_BHTE


def _scaled(S_BHFK, dtype):
    """S / scale and scale, because sums over many tokens can exceed 65504, the largest float16."""
    if dtype != jnp.float16:
        return S_BHFK, jnp.ones((1, 1, 1, 1), S_BHFK.dtype)
    peak_BH11 = jax.lax.stop_gradient(jnp.max(jnp.abs(S_BHFK), axis=(2, 3), keepdims=True))
    scale_BH11 = jnp.maximum(peak_BH11, 1)
    return S_BHFK / scale_BH11, scale_BH11
