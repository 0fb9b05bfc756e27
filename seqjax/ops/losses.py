"""Losses per element. The task applies the mask and takes the mean."""

import jax
import jax.numpy as jnp


def cross_entropy(logits_XC, target_X):
    """-log softmax(logits)[target] in nats: (..., C), int (...) -> float32 (...).

    Targets outside 0 ... C - 1 give wrong numbers without an error: the data source is checked on the host instead.
    """
    logits_XC = logits_XC.astype(jnp.float32)
    picked_X = jnp.take_along_axis(logits_XC, target_X[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits_XC, axis=-1) - picked_X
