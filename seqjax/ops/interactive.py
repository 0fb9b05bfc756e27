"""Attention in both directions between a sequence x and a memory m; the memory reads the tokens of x so far.

    S_ts = cap tanh((q_t . k_s + b_t + b_s) / cap),   E = exp(S)
    r_t  = sum_s a_ts m_s,   a_ts = E_ts / sum_s E_ts                           the token reads the memory
    u_ts = sum_{t' <= t} E_t's x_t' / Z_ts,   Z_ts = sum_{t' <= t} E_t's         the memory reads the tokens so far
    c_t  = sum_s a_ts u_ts                                                      the token reads what the memory has read

The u_ts are never stored: c_t = sum_t' W_tt' x_t' with W = sum_s (a_ts / Z_ts) E_t's over the tokens of a chunk, plus
sums of fixed size for all earlier tokens. Scores are capped, so no sum needs a running maximum.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.ops import _documents as documents
from seqjax.ops._product import product, wide

CHUNK = 64


class Sums(NamedTuple):
    """The sums that the memory has read: E x and E, summed over the tokens of a document, float32."""

    total_BHSK: jax.Array
    weight_BHS: jax.Array


class Scores(NamedTuple):
    """The parts of the scores: q and k, and a float32 bias for each token and each position of the memory."""

    q_BLHK: jax.Array
    k_BSHK: jax.Array
    bias_BLH: jax.Array
    bias_BHS: jax.Array


def attend(scores, x_BLHK, m_BSHK, sums, real_BS, mask_BL=None, reset_BL=None, *, cap, causal=True, chunk=CHUNK):
    """r and c of every token, (B, L, H, K), float32, and the sums after the last token.

    A masked token does not change the sums and gets zeros; a reset (on a real token) sets the sums before it to zero.
    If the memory is empty, r and c are zeros without a gradient. Operands of products have the dtype of x, except E,
    which can exceed the range of float16. Memory use is linear in L if causal: the backward pass keeps one state per
    chunk.

    Args:
      scores: `Scores`.
      x_BLHK, m_BSHK: the sequence and the memory, which read each other.
      sums: `Sums` of the earlier tokens; zeros at the start.
      real_BS: bool, the real positions of the memory.
      mask_BL, reset_BL: bool, as in a mixer.
      cap: scores stay within +- cap.
      causal: False: sums run over every t' of the document, not only t' <= t. This takes one chunk and O(L (L + S))
        memory, and ignores the given `sums`.
      chunk: tokens per chunk, at most. It changes only the speed.

    Xiong et al. 2016, arXiv:1611.01604; Lu et al. 2016, arXiv:1606.00061; Seo et al. 2016, arXiv:1611.01603.
    """
    k_BHSK, m_BHSK = documents.swap((scores.k_BSHK, m_BSHK))
    memory = k_BHSK, scores.bias_BHS, m_BHSK, real_BS
    tokens = scores.q_BLHK, scores.bias_BLH, x_BLHK
    chunk = chunk if causal else x_BLHK.shape[1]
    sums, (r_BLHK, c_BLHK) = documents.scan(
        partial(_chunk, cap, causal, memory), sums, tokens, mask_BL, reset_BL, chunk
    )
    return r_BLHK, c_BLHK, sums


def weights(scores, real_BS, mask_BL=None, reset_BL=None, *, cap):
    """The weights in both directions, float32: a (B, H, L, S), and b (B, H, S, L).

    b_st = E_ts / sum_t' E_t's, the weights of a memory position at the end of each document, over the tokens of this
    call only; they sum to one over the tokens of a document.
    """
    every = documents.whole((scores.q_BLHK, scores.bias_BLH), mask_BL, reset_BL)
    q_BHLK, bias_BHL = documents.swap(every.tokens)
    e_BHLS = _exp(q_BHLK, bias_BHL, jnp.swapaxes(scores.k_BSHK, 1, 2), scores.bias_BHS, every.real_BT, real_BS, cap)
    z_BHLS = jnp.einsum("BLT,BHTS->BHLS", every.visible(causal=False).astype(e_BHLS.dtype), e_BHLS)
    return _shares(e_BHLS, jnp.sum(e_BHLS, axis=-1, keepdims=True)), jnp.swapaxes(_shares(e_BHLS, z_BHLS), 2, 3)


def _exp(q_BHTK, bias_BHT, k_BHSK, bias_BHS, real_BT, real_BS, cap):
    """E, zero where the token or the position of the memory is masked."""
    score_BHTS = product("BHTK,BHSK->BHTS", q_BHTK, k_BHSK, q_BHTK.dtype)
    score_BHTS = cap * jnp.tanh((score_BHTS + bias_BHT[..., None] + bias_BHS[:, :, None]) / cap)
    real_BTS = real_BS[:, None] if real_BT is None else real_BT[:, :, None] & real_BS[:, None]
    return jnp.where(real_BTS[:, None], jnp.exp(score_BHTS), 0.0)


def _shares(part, whole):
    """part / whole, zero where whole is zero."""
    return jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1.0), 0.0)


def _chunk(cap, causal, memory, sums, chunk):
    """T tokens: the sums after them, and (r, c)."""
    (k_BHSK, bias_BHS, m_BHSK, real_BS), (q_BHTK, bias_BHT, x_BHTK) = memory, documents.swap(chunk.tokens)
    dtype = x_BHTK.dtype
    long = wide(dtype) if dtype == jnp.float16 else dtype  # a dtype whose range holds E and its sums
    seen_BTT = chunk.visible(causal)
    old_B1T1 = (chunk.old_BT & causal)[:, None, :, None]

    e_BHTS = _exp(q_BHTK, bias_BHT, k_BHSK, bias_BHS, chunk.real_BT, real_BS, cap)
    a_BHTS = _shares(e_BHTS, jnp.sum(e_BHTS, axis=-1, keepdims=True))
    r_BHTK = product("BHTS,BHSK->BHTK", a_BHTS, m_BHSK, dtype)

    z_BHTS = jnp.einsum("BTU,BHUS->BHTS", seen_BTT.astype(e_BHTS.dtype), e_BHTS)
    z_BHTS += jnp.where(old_B1T1, sums.weight_BHS[:, :, None], 0.0)
    p_BHTS = _shares(a_BHTS, z_BHTS)
    w_BHTU = jnp.where(seen_BTT[:, None], product("BHTS,BHUS->BHTU", p_BHTS, e_BHTS, long), 0.0)
    c_BHTK = product("BHTU,BHUK->BHTK", w_BHTU, x_BHTK, dtype)
    c_BHTK += product("BHTS,BHSK->BHTK", jnp.where(old_B1T1, p_BHTS, 0.0), sums.total_BHSK, long)

    old, e_BHTS = chunk.keep(sums), jnp.where(chunk.stays_BT[:, None, :, None], e_BHTS, 0.0)
    total_BHSK = old.total_BHSK + product("BHTS,BHTK->BHSK", e_BHTS, x_BHTK, long)
    return Sums(total_BHSK, old.weight_BHS + jnp.sum(e_BHTS, axis=2)), documents.swap((r_BHTK, c_BHTK))
