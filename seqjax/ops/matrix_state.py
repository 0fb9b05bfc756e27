"""Recurrences whose state is a matrix: it decays, is written to by outer products, and may be read back by one vector.

    S_t = D_t S_{t-1} + b_t u_t^T + k_t v_t^T,   D_t = diag(exp(g_t)),   u_t = c_t + (D_t S_{t-1})^T a_t
    y_t = S_t^T q_t

    RetNet, Mamba-2   g has one number per head       GLA, HGRN2   g has one number per channel (neither has a, b, c)
    DeltaNet          b = k, a = -beta k, c = beta v (no pair k, v): see `delta`
    RWKV-7            k and v, and b and a (no c)

In a chunk, with G_t = g_1 + ... + g_t, all pairs of tokens are computed at once:

    P[t, s] = reader_t . writer_s exp(G_t - G_s)           readers q and a, writers k and b
    u = (I - P_ab)^-1 (c + P_ak v + (a exp(G))^T S)        P_ab, P_ak: s < t
    y = P_qk v + P_qb u + (q exp(G))^T S                   P_qk, P_qb: s <= t

The system for u is triangular. Its inverse is put together from those of its halves, and so on down to 8 tokens: powers
of P_ab explode if equal keys follow each other. (LAPACK's solver, called by XLA from several threads at once, can wait
forever.)
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.ops import _documents as documents
from seqjax.ops._product import wide

CHUNK = 64  # fastest for decays per head, on a CPU; for decays per channel it is what `LIMIT` allows
CHUNK_BACK = 32  # the same, where the state is read back
ROWS = 8  # so many rows of the triangular system are solved one by one: the fastest of 4, 8 and 16
# The lowest g that is told from -inf: exp of it is 0 beside 1. And the largest exponent, of either sign, of a factor in
# `_pairs`: its products with numbers from 1e-10 to 1e10 are normal numbers.
LOWEST, LIMIT = {"float32": -16.0, "float64": -40.0}, {"float32": 64.0, "float64": 340.0}


class Tokens(NamedTuple):
    """What the tokens do: q, k, a, b (B, L, H, K), v, c (B, L, H, V), g (B, L, H, 1) or (B, L, H, K) and <= 0.

    None stands for zeros: of k and v together, of a and b together, of c. If H is 1 in q and k, all heads share them.
    """

    q: jax.Array
    g: jax.Array
    k: jax.Array | None = None
    v: jax.Array | None = None
    a: jax.Array | None = None
    b: jax.Array | None = None
    c: jax.Array | None = None


def delta(q_BLHK, k_BLHK, v_BLHV, beta_BLH1, g_BLHX) -> Tokens:
    """The gated delta rule, S_t = D_t S_{t-1} + beta k (v - (D_t S_{t-1})^T k)^T, as `Tokens`.

    If |k| = 1, beta in (0, 2) keeps the state bounded; at 2 the state is reflected.
    """
    k_BLHK = k_BLHK.astype(beta_BLH1.dtype)
    return Tokens(q_BLHK, g_BLHX, a=-beta_BLH1 * k_BLHK, b=k_BLHK, c=beta_BLH1 * v_BLHV)


def run(tokens: Tokens, S_BHKV, mask_BL=None, reset_BL=None, *, lowest: float | None = None, chunk: int | None = None):
    """y (B, L, H, V) of every token, zero where masked, and the last state (B, H, K, V); both at least float32.

    A masked token does not change the state; a reset (on a real token) sets the state before it to zero. Decays, sums,
    the triangular system and states are at least float32, for all dtypes of the arguments. Memory use is linear in L:
    the backward pass keeps one state per chunk. If the mesh splits sequences (`seqjax.ops.ring`) and a and b are None,
    each device first sums what its own tokens write, and devices exchange only these sums and decays.

    Args:
      tokens: `Tokens`.
      S_BHKV: the state before the first token; zeros at the start.
      mask_BL, reset_BL: bool, as in a mixer.
      lowest: a bound of g; lower ones are raised to it, without a gradient. None: -16 in float32, and exp(-16) is 1e-7.
        Decays per channel are products of two factors, so the higher the bound, the longer a chunk may be.
      chunk: tokens per chunk, at most; None: what is fast. It changes only the speed; 1 gives the recurrence above.

    Raises:
      ValueError: a width or a mask does not fit, `lowest` is not below zero, a chunk is empty, or devices cannot share
        the length.

    Yang et al. 2023, "GLA", arXiv:2312.06635; Dao and Gu 2024, "Mamba-2", arXiv:2405.21060; Yang et al. 2024,
    "Parallelizing linear transformers with the delta rule", arXiv:2406.06484.
    """
    dtype = wide(tokens.q.dtype).name
    lowest = LOWEST[dtype] if lowest is None else lowest
    _check(tokens, S_BHKV, lowest)
    if chunk is None:
        chunk = CHUNK if tokens.b is None else CHUNK_BACK
    if tokens.g.shape[-1] > 1:
        chunk = min(chunk, max(1, int(-2 * LIMIT[dtype] / lowest)))
    tokens = tokens._replace(g=jnp.maximum(tokens.g.astype(dtype), lowest))
    effect = documents.linear(partial(_effect, dtype)) if tokens.b is None else None
    S_BHKV, y_BLHV = documents.scan(
        partial(_chunk, dtype, lowest), S_BHKV.astype(dtype), tokens, mask_BL, reset_BL, chunk, effect
    )
    return y_BLHV, S_BHKV


def _check(tokens, S_BHKV, lowest) -> None:
    """Raises ValueError unless all arrays fit the state."""
    if not lowest < 0:
        raise ValueError(f"lowest={lowest}; it is a bound of log decays: choose a number below 0.")
    _, H, K, V = S_BHKV.shape
    for name, widths in (("q", (K,)), ("k", (K,)), ("a", (K,)), ("b", (K,)), ("g", (1, K)), ("v", (V,)), ("c", (V,))):
        x = getattr(tokens, name)
        heads = (1, H) if name in "qk" else (H,)
        if x is not None and (x.shape[2] not in heads or x.shape[3] not in widths):
            raise ValueError(
                f"{name} is {list(x.shape)}, and the state [B, {H}, {K}, {V}] wants {H} heads of width "
                f"{' or '.join(map(str, dict.fromkeys(widths)))}: project to that, or make another state."
            )


def _chunk(dtype, lowest, S_BHKV, chunk):
    """One chunk of T tokens: -> the state after it, and y."""
    q, g, k, v, a, b, c = _heads_first(dtype, chunk)
    sees_B1TT = chunk.visible()[:, None]
    earlier_B1TT = sees_B1TT & ~jnp.eye(chunk.length, dtype=bool)[None, None]
    G_BHTX = jnp.cumsum(g, axis=2)  # inclusive: exponents of an exclusive sum could be large and positive
    since_BHTX = jnp.where(_flag(chunk.old_BT), jnp.exp(G_BHTX), 0)  # what is left of S at each token
    reads, writes = [x for x in (q, a) if x is not None], [x for x in (k, b) if x is not None]
    pairs = _pairs(reads, writes, G_BHTX, lowest)
    from_S = jnp.split(jnp.concatenate([x * since_BHTX for x in reads], axis=2) @ S_BHKV, len(reads), axis=2)

    values = [] if k is None else [v]
    if b is not None:
        u_BHTV = from_S[1] if c is None else from_S[1] + c
        u_BHTV = u_BHTV if k is None else u_BHTV + pairs(1, 0, earlier_B1TT) @ v
        values.append(_solve(pairs(1, -1, earlier_B1TT), u_BHTV))
    y_BHTV = from_S[0] + sum(pairs(0, j, sees_B1TT) @ value for j, value in enumerate(values))
    return _written(S_BHKV, chunk, G_BHTX, writes, values), documents.swap(y_BHTV)


def _pairs(reads, writes, G_BHTX, lowest):
    """A function of i, j and what sees what: the pairs of reader i and writer j, faded, zero where one does not see."""
    T = G_BHTX.shape[2]
    turn = lambda x: jnp.swapaxes(x, 2, 3)
    per_channel = G_BHTX.shape[-1] > 1
    if per_channel:
        # exp(G_t - G_s) as two factors, exp(G_t) c^2 and exp(-G_s) / c^2. A constant c halves the largest exponent; a
        # sum up to the middle of the chunk would let later tokens into the rounding of earlier ones. Squares, because
        # exp(G) alone could be too small; a power of two, because that is exact.
        c = 2.0 ** round(-lowest * T / 4 / math.log(2))
        reads = [x * (jnp.exp(G_BHTX / 2) * c) ** 2 for x in reads]
        writes = [x * (jnp.exp(-G_BHTX / 2) / c) ** 2 for x in writes]
    all_BHMM = jnp.concatenate(reads, axis=2) @ turn(jnp.concatenate(writes, axis=2))  # one product for all

    def pairs(i, j, sees_B1TT):
        j = j % len(writes)
        pairs_BHTT = all_BHMM[:, :, i * T : (i + 1) * T, j * T : (j + 1) * T]
        if per_channel:
            return jnp.where(sees_B1TT, pairs_BHTT, 0)
        # Selected before exp: what lies ahead would be inf, and its gradient NaN.
        return pairs_BHTT * jnp.exp(jnp.where(sees_B1TT, G_BHTX - turn(G_BHTX), -jnp.inf))

    return pairs


def _solve(P_BHTT, x_BHTV):
    """u of u = x + P u, where P is zero on and above the diagonal."""
    inverse_BHTT = _inverse(jax.lax.stop_gradient(P_BHTT))
    return jax.lax.custom_linear_solve(
        lambda u_BHTV: u_BHTV - P_BHTT @ u_BHTV,
        x_BHTV,
        lambda _, x_BHTV: inverse_BHTT @ x_BHTV,
        lambda _, x_BHTV: jnp.swapaxes(inverse_BHTT, 2, 3) @ x_BHTV,
    )


def _inverse(P_XTT):
    """The inverse of I - P: that of [[A, 0], [-C, B]] is [[A', 0], [B' C A', B']], and of few rows, row by row."""
    T, product = P_XTT.shape[-1], partial(jnp.matmul, precision="highest")
    if T <= ROWS:
        return _by_rows(P_XTT)
    half = math.ceil(T / 2)
    P_XTT = jnp.pad(P_XTT, [(0, 0)] * (P_XTT.ndim - 2) + [(0, 2 * half - T)] * 2)
    A_XTT, B_XTT = _inverse(jnp.stack([P_XTT[..., :half, :half], P_XTT[..., half:, half:]]))
    C_XTT = product(product(B_XTT, P_XTT[..., half:, :half]), A_XTT)
    return jnp.block([[A_XTT, jnp.zeros_like(A_XTT)], [C_XTT, B_XTT]])[..., :T, :T]


def _by_rows(P_XTT):
    """The same by substitution, r_t = e_t + sum_s P[t, s] r_s. No products of matrices: those of 8 rows are slow."""
    eye_TT, rows = np.eye(P_XTT.shape[-1], dtype=P_XTT.dtype), []
    for t, row_T in enumerate(eye_TT):
        row_XT = jnp.broadcast_to(row_T, P_XTT.shape[:-1])
        rows.append(row_XT + sum(P_XTT[..., t, s, None] * earlier_XT for s, earlier_XT in enumerate(rows)))
    return jnp.stack(rows, axis=-2)


def _effect(dtype, carried, chunk):
    """How one chunk changes the state: -> what is left of it, and what its own tokens write; no y."""
    (left_BHKV, own_BHKV), (_, g, k, v, *_) = carried, _heads_first(dtype, chunk)
    G_BHTX = jnp.cumsum(g, axis=2)
    return (chunk.keep(left_BHKV) * _end(G_BHTX), _written(own_BHKV, chunk, G_BHTX, [k], [v])), None


def _written(S_BHKV, chunk, G_BHTX, writes, values):
    """The state after one chunk of T tokens."""
    until_BHTX = jnp.where(_flag(chunk.stays_BT), jnp.exp(G_BHTX[:, :, -1:] - G_BHTX), 0)
    added = (jnp.swapaxes(w * until_BHTX, 2, 3) @ value for w, value in zip(writes, values, strict=True))
    return chunk.keep(S_BHKV) * _end(G_BHTX) + sum(added)


def _end(G_BHTX):
    """What is left of the state at the end of a chunk."""
    return jnp.exp(jnp.swapaxes(G_BHTX[:, :, -1:], 2, 3))


def _heads_first(dtype, chunk):
    return jax.tree.map(lambda x: x.astype(dtype), documents.swap(chunk.tokens))


def _flag(flag_BT):
    return flag_BT[:, None, :, None]
