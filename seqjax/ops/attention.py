"""Softmax attention on arrays."""

import jax
import jax.numpy as jnp

FLOOR = -1e30


def attend(q_BLHK, k_BSHK, v_BSHK, allowed_BLS):
    """softmax(q k^T / sqrt(K)) v over the keys that each query is allowed to see.

    A query that may see nothing gets zeros and passes no gradient. Scores and softmax are float32.

    Args:
      q_BLHK, k_BSHK, v_BSHK: queries, keys and values.
      allowed_BLS: bool, True = may look; (1, L, S) broadcasts over the batch.

    Returns:
      (B, L, H, K) in the dtype of q.
    """
    dtype = q_BLHK.dtype
    q_BLHK = q_BLHK * jnp.asarray(q_BLHK.shape[-1] ** -0.5, dtype)
    scores_BHLS = jnp.einsum("BLHK,BSHK->BHLS", q_BLHK, k_BSHK, preferred_element_type=jnp.float32)
    # A finite floor, and a peak well above it: a row with nothing to see has only zeros, and inf - inf never happens.
    scores_BHLS = jnp.where(allowed_BLS[:, None], scores_BHLS, FLOOR)
    peak_BHL1 = jnp.max(scores_BHLS, axis=-1, keepdims=True, initial=FLOOR / 2)
    weights_BHLS = jnp.exp(scores_BHLS - jax.lax.stop_gradient(peak_BHL1))
    total_BLH1 = jnp.swapaxes(jnp.sum(weights_BHLS, axis=-1, keepdims=True), 1, 2)
    y_BLHK = jnp.einsum("BHLS,BSHK->BLHK", weights_BHLS.astype(dtype), v_BSHK, preferred_element_type=jnp.float32)
    return (y_BLHK / jnp.where(total_BLH1 > 0, total_BLH1, 1.0)).astype(dtype)
