"""Scores of queries and keys, (B, H, L, S), float32, for `seqjax.ops.attention.weigh`.

The bilinear scores are products of a transformed q or k, so `seqjax.ops.attention.attend` can compute them in blocks:
dot (scale 1), scaled dot (scale 1 / sqrt(K)), general (`general` on q or k) and cosine (`unit` on both).
"""

import jax
import jax.numpy as jnp

from seqjax.ops import dense


def dot(q_BLHK, k_BSGK):
    """q . k; each of G key heads serves H / G consecutive query heads."""
    (B, L, H, K), (S, G) = q_BLHK.shape, k_BSGK.shape[1:3]
    q_BLGRK = q_BLHK.reshape(B, L, G, H // G, K)
    scores = jnp.einsum("BLGRK,BSGK->BGRLS", q_BLGRK, k_BSGK, preferred_element_type=jnp.float32)
    return scores.reshape(B, H, L, S)


def general(x_BLHK, w_HJK):
    """W_h x, so that its product with the other side is bilinear: (B, L, H, J). Luong et al. 2015, arXiv:1508.04025."""
    return dense.einsum("BLHK,HJK->BLHJ", x_BLHK, w_HJK, x_BLHK.dtype)


def unit(x_BLHK, epsilon: float = 1e-6):
    """x / |x| per head, so that a product is a cosine; vectors near zero stay near zero. Norms are float32.

    Graves et al. 2014, arXiv:1410.5401; with a learned temperature: Henry et al. 2020, arXiv:2010.04245.
    """
    x = x_BLHK.astype(jnp.float32)
    return (x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + epsilon**2)).astype(x_BLHK.dtype)


def additive(q_BLHK, k_BSHK, v_HK):
    """v . tanh(q + k), with q and k already projected; it needs memory for (B, L, S, H, K).

    Bahdanau et al. 2014, arXiv:1409.0473.
    """
    hidden_BLSHK = jnp.tanh(q_BLHK[:, :, None].astype(jnp.float32) + k_BSHK[:, None].astype(jnp.float32))
    return jnp.einsum("BLSHK,HK->BHLS", hidden_BLSHK, v_HK.astype(jnp.float32))


def location(score_BLHP, position_BS):
    """The score that a query gives to the position of a key; it does not depend on the key. -> (B, H, L, S).

    `score_BLHP` has scores for P positions, `position_BS` (1 or B, S) has the positions of the keys. Keys after the
    last of P positions get its score. The location-based function of Luong et al. 2015, section 3.1, arXiv:1508.04025.
    """
    B, L, H, P = score_BLHP.shape
    place_B11S = jnp.broadcast_to(jnp.clip(position_BS, 0, P - 1), (B, position_BS.shape[1]))[:, None, None]
    index_BHLS = jnp.broadcast_to(place_B11S, (B, H, L, position_BS.shape[1]))
    return jnp.take_along_axis(jnp.moveaxis(score_BLHP.astype(jnp.float32), 2, 1), index_BHLS, axis=-1)
