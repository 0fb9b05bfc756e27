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


def classification(logits_BC, target_B, *, label_smoothing: float = 0.0, focal_gamma: float = 0.0):
    """Cross-entropy with smoothed targets and a focal factor, in nats: (B, C), int (B,) -> float32 (B,).

        loss_b = (1 - p_by)^gamma sum_c q_bc (-log p_bc),   y = target_b
        q = (1 - smoothing) onehot(y) + smoothing / C

    Label smoothing: Szegedy et al. 2016, arXiv:1512.00567; focal loss: Lin et al. 2017, arXiv:1708.02002.
    """
    log_p_BC = jax.nn.log_softmax(logits_BC.astype(jnp.float32), axis=-1)
    log_p_B = jnp.take_along_axis(log_p_BC, target_B[:, None], axis=-1)[:, 0]
    loss_B = -(1 - label_smoothing) * log_p_B - label_smoothing * jnp.mean(log_p_BC, axis=-1)
    if not focal_gamma:
        return loss_B
    # The slope of 0 ** gamma is infinite for gamma < 1: p = 1 has the loss 0 in any case.
    rest_B = jnp.maximum(-jnp.expm1(log_p_B), jnp.finfo(jnp.float32).tiny)
    return rest_B**focal_gamma * loss_B
