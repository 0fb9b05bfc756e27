"""Functions from scores to attention weights, along the last axis, over the allowed entries.

The weights are float32 and zero where not allowed. A row with nothing allowed has zero weights and zero gradient.
"""

import jax
import jax.numpy as jnp


def _from_peak(score_XS, allowed_XS):
    """Scores minus the largest allowed one, at least -10, which is outside the support of `sparsemax` and `entmax`."""
    peak_X1 = jnp.max(score_XS, axis=-1, keepdims=True, where=allowed_XS, initial=-jnp.inf)
    peak_X1 = jax.lax.stop_gradient(jnp.where(jnp.isfinite(peak_X1), peak_X1, 0.0))
    return jnp.where(allowed_XS, jnp.maximum(score_XS.astype(jnp.float32) - peak_X1, -10.0), -10.0)


def softmax(score_XS, allowed_XS):
    """exp(s_i) / sum_j exp(s_j)."""
    score_XS = jnp.where(allowed_XS, score_XS.astype(jnp.float32), -1e30)
    return jnp.where(allowed_XS, jax.nn.softmax(score_XS, axis=-1), 0.0)


def sigmoid(score_XS, allowed_XS):
    """1 / (1 + exp(-s_i)): each independent, so they do not sum to one. Ramapuram et al. 2024, arXiv:2409.04431."""
    return jnp.where(allowed_XS, jax.nn.sigmoid(jnp.where(allowed_XS, score_XS.astype(jnp.float32), 0.0)), 0.0)


def hard(score_XS, allowed_XS):
    """1 at the largest score (the first, if several are equal), else 0.

    The gradient is that of `softmax` (straight-through; Bengio et al. 2013, arXiv:1308.3432).
    """
    soft_XS = softmax(score_XS, allowed_XS)
    best_X = jnp.argmax(jnp.where(allowed_XS, score_XS, -jnp.inf), axis=-1)
    hard_XS = jnp.where(allowed_XS, jax.nn.one_hot(best_X, score_XS.shape[-1]), 0.0)
    return hard_XS + (soft_XS - jax.lax.stop_gradient(soft_XS))


def sparsemax(score_XS, allowed_XS):
    """max(s_i - t, 0), with t such that the weights sum to one: the nearest point of the simplex.

    Martins and Astudillo 2016, arXiv:1602.02068.
    """
    return jnp.where(allowed_XS, _sparsemax(_from_peak(score_XS, allowed_XS)), 0.0)


def entmax(score_XS, allowed_XS):
    """max(s_i / 2 - t, 0)^2, with t such that the weights sum to one: between softmax and sparsemax (alpha = 1.5).

    Peters et al. 2019, "Sparse sequence-to-sequence models", arXiv:1905.05702.
    """
    return jnp.where(allowed_XS, _entmax(_from_peak(score_XS, allowed_XS)), 0.0)


def _sorted(z_XS):
    """The scores in descending order, and the numbers 1 ... S in the same shape."""
    return -jnp.sort(-z_XS, axis=-1), jnp.broadcast_to(jnp.arange(1.0, z_XS.shape[-1] + 1), z_XS.shape)


def _at(values_XS, count_X1):
    """The value at index `count`, counting from one."""
    return jnp.take_along_axis(values_XS, count_X1.astype(jnp.int32) - 1, axis=-1)


def _simplex(z_XS):
    sorted_XS, count_XS = _sorted(z_XS)
    threshold_XS = (jnp.cumsum(sorted_XS, axis=-1) - 1) / count_XS
    support_X1 = jnp.sum(sorted_XS > threshold_XS, axis=-1, keepdims=True)
    return jnp.maximum(z_XS - _at(threshold_XS, support_X1), 0.0)


def _root(x):
    """The square root, with slope zero at zero and below."""
    return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1.0)), 0.0)


def _between(z_XS):
    z_XS = z_XS / 2
    sorted_XS, count_XS = _sorted(z_XS)
    mean_XS = jnp.cumsum(sorted_XS, axis=-1) / count_XS
    spread_XS = jnp.cumsum(sorted_XS**2, axis=-1) / count_XS - mean_XS**2
    threshold_XS = mean_XS - _root(1 / count_XS - spread_XS)
    support_X1 = jnp.sum(threshold_XS <= sorted_XS, axis=-1, keepdims=True)
    return jnp.maximum(z_XS - _at(threshold_XS, support_X1), 0.0) ** 2


def _pull(slope_XS, dp_XS):
    """The gradient where dp_i/ds_j = slope_i (i = j) - slope_i slope_j / sum(slope)."""
    mean_X1 = jnp.sum(slope_XS * dp_XS, axis=-1, keepdims=True) / jnp.sum(slope_XS, axis=-1, keepdims=True)
    return (slope_XS * (dp_XS - mean_X1),)


# The backward pass needs no sorting. Its residuals are ordinary outputs, so that it is differentiable, too.
_sparsemax, _entmax = jax.custom_vjp(_simplex), jax.custom_vjp(_between)
_sparsemax.defvjp(lambda z: (_simplex(z),) * 2, lambda p, dp: _pull((p > 0).astype(p.dtype), dp))
_entmax.defvjp(lambda z: (_between(z),) * 2, lambda p, dp: _pull(_root(p), dp))
