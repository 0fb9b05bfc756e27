"""Softmax attention on arrays."""

import jax.numpy as jnp
import numpy as np


def attend(q_BLHK, k_BSHK, v_BSHK, allowed_BLS):
    """softmax(q k^T / sqrt(K)) v over the keys that each query is allowed to see.

    A query that may see nothing gets zeros and passes no gradient. Scores and softmax are float32.

    Args:
      q_BLHK, k_BSHK, v_BSHK: queries, keys and values.
      allowed_BLS: bool, True = may look; (1, L, S) broadcasts over the batch.

    Returns:
      (B, L, H, K) in the dtype of q.
    """
    scores_BHLS = jnp.einsum("BLHK,BSHK->BHLS", q_BLHK, k_BSHK, preferred_element_type=jnp.float32)
    allowed_BHLS = allowed_BLS[:, None]
    scale = float(1 / np.sqrt(q_BLHK.shape[-1]))
    # Finite floor: a row with nothing to see has a maximum too, and exp never meets inf - inf.
    scores_BHLS = jnp.where(allowed_BHLS, scores_BHLS * scale, -1e30)
    peak_BHL1 = jnp.max(scores_BHLS, axis=-1, keepdims=True, initial=-1e30)
    weights_BHLS = jnp.where(allowed_BHLS, jnp.exp(scores_BHLS - peak_BHL1), 0.0)
    total_BHL1 = jnp.sum(weights_BHLS, axis=-1, keepdims=True)
    weights_BHLS = weights_BHLS / jnp.where(total_BHL1 > 0, total_BHL1, 1.0)
    y_BLHK = jnp.einsum(
        "BHLS,BSHK->BLHK", weights_BHLS.astype(v_BSHK.dtype), v_BSHK, preferred_element_type=jnp.float32
    )
    return y_BLHK.astype(q_BLHK.dtype)
