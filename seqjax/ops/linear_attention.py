"""Linear attention: a weighted mean of all values so far, from sums of fixed size.

Softmax attention must read every earlier key again for each query. If the weight of a key is a product of features,
w(q, k) = phi(q) . phi(k), the sums over keys do not depend on the query, and one pass can carry them along. Here that
pass goes chunk by chunk: it computes a small matrix of weights between the tokens of a chunk, and uses the sums for all
earlier tokens.
"""

from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.ops import _documents as documents
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
      ValueError: the kernel is unknown, a mask has the wrong shape, the chunk is empty, or the length cannot be split
        over devices.

    Katharopoulos et al. 2020, arXiv:2006.16236; in chunks: Hua et al. 2022, arXiv:2202.10447.
    """
    if kernel not in get_args(Kernel):
        raise ValueError(f"kernel={kernel!r}; choose from {', '.join(get_args(Kernel))}.")
    state = jax.tree.map(lambda a: a.astype(wide(q_BLHE.dtype)), state)
    step, effect, tokens = partial(_chunk, kernel), documents.linear(partial(_effect, kernel)), (q_BLHE, k_BLHE, v_BLHK)
    state, y_BLHK = documents.scan(step, state, tokens, mask_BL, reset_BL, chunk, effect, heads_first=True)
    return y_BLHK, state


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


def _chunk(kernel, state, chunk):
    """One chunk of T tokens: -> the state after it, and y."""
    S_BHFK, z_BHF = state
    q_BHTE, k_BHTE, v_BHTK = chunk.tokens
    dtype = q_BHTE.dtype

    weight_BHTS = product("BHTE,BHSE->BHTS", q_BHTE, k_BHTE, dtype)
    if kernel == "taylor":
        weight_BHTS = 1 + weight_BHTS + weight_BHTS**2 / 2
    phi_q_BHTF = _features(kernel, q_BHTE)
    weight_BHTS = jnp.where(chunk.visible()[:, None], weight_BHTS, 0)
    phi_q_BHTF = jnp.where(chunk.old_BT[:, None, :, None], phi_q_BHTF, 0)

    total_BHT = jnp.sum(weight_BHTS, axis=-1) + jnp.einsum("BHTF,BHF->BHT", phi_q_BHTF, z_BHF)
    share_BHT1 = jnp.where(total_BHT > LEAST, 1 / jnp.maximum(total_BHT, LEAST), 0)[..., None]
    # Shares, not weights, are cast to the dtype: they are at most 1, but weights can exceed the range of float16.
    y_BHTK = product("BHTS,BHSK->BHTK", weight_BHTS * share_BHT1, v_BHTK, dtype)
    scaled_BHFK, scale_BH11 = _scaled(S_BHFK, dtype)
    y_BHTK += product("BHTF,BHFK->BHTK", phi_q_BHTF, scaled_BHFK, dtype) * (share_BHT1 * scale_BH11)
    return _written(kernel, state, chunk, k_BHTE, v_BHTK), y_BHTK.astype(dtype)


def _effect(kernel, carried, chunk):
    """How one chunk changes the state: -> whether the older sums stay, and the sums of its own keys; no y."""
    keeps, own = carried
    return (chunk.keep(keeps), _written(kernel, own, chunk, *chunk.tokens[1:])), None


def _written(kernel, state, chunk, k_BHTE, v_BHTK):
    """The state after one chunk of T tokens."""
    S_BHFK, z_BHF = chunk.keep(state)
    phi_k_BHTF = jnp.where(chunk.stays_BT[:, None, :, None], _features(kernel, k_BHTE), 0)
    return S_BHFK + product("BHTF,BHTK->BHFK", phi_k_BHTF, v_BHTK, k_BHTE.dtype), z_BHF + jnp.sum(phi_k_BHTF, axis=2)


def _features(kernel, x_BHTE):
    x_BHTE = x_BHTE.astype(wide(x_BHTE.dtype))
    return taylor(x_BHTE) if kernel == "taylor" else x_BHTE


def _scaled(S_BHFK, dtype):
    """S / scale and scale, because sums over many tokens can exceed 65504, the largest float16."""
    if dtype != jnp.float16:
        return S_BHFK, jnp.ones((1, 1, 1, 1), S_BHFK.dtype)
    peak_BH11 = jax.lax.stop_gradient(jnp.max(jnp.abs(S_BHFK), axis=(2, 3), keepdims=True))
    scale_BH11 = jnp.maximum(peak_BH11, 1)
    return S_BHFK / scale_BH11, scale_BH11
