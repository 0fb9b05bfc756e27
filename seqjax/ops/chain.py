"""Chains of K hidden states: one scan over a semiring, for hidden Markov models and conditional random fields.

A path z has the log-weight start[z_1] + score[1, z_1] + the sum over t > 1 of transition[z_{t-1}, z_t] + score[t, z_t].
In a hidden Markov model this is log p(x, z); in a conditional random field the weights are any numbers. -inf forbids.

`state_BK` is the normalised filter, log p(z_t | x_1..t), float32. All zeros: no token has been read yet. A masked token
does not exist. A reset (on a real token) ends the document before it and starts the next one with `start_K`; documents
of one row are independent, and their log-likelihoods and path scores add up.

Rabiner 1989, "A tutorial on hidden Markov models", https://doi.org/10.1109/5.18626.
"""

import jax
import jax.numpy as jnp

from seqjax import masks


def filter(start_K, transition_KK, score_BLK, state_BK=None, *, mask_BL=None, reset_BL=None):
    """log p(z_t | x_1..t) (B, L, K), evidence log p(x_t | x_1..t-1) (B, L), and the last state (B, K).

    Zero where masked. After an impossible observation (evidence -inf) filter and evidence are -inf to the end of the
    document.

    Raises:
      ValueError: an array or a mask has the wrong shape.
    """
    (filter_LBK, evidence_LB, _), state_BK = _forward(start_K, transition_KK, score_BLK, state_BK, mask_BL, reset_BL)
    return masks.fill(_swap(filter_LBK), mask_BL), evidence_LB.T, state_BK


def smooth(start_K, transition_KK, score_BLK, state_BK=None, *, mask_BL=None, reset_BL=None):
    """log p(z_t | x_1..L), the posterior given the whole document: (B, L, K), zero where masked."""
    (filter_LBK, _, predicted_LBK), _ = _forward(start_K, transition_KK, score_BLK, state_BK, mask_BL, reset_BL)
    real_LB, fresh_LB = _flags(score_BLK, state_BK, mask_BL, reset_BL)

    def step(message_BK, slices):
        filter_BK, predicted_BK, real_B1, fresh_B1 = slices
        posterior_BK = filter_BK + message_BK
        ratio_BK = jnp.where(predicted_BK == -jnp.inf, -jnp.inf, posterior_BK - predicted_BK)
        new_BK = jnp.where(fresh_B1, 0, _sum(transition_KK.T[None] + ratio_BK[:, :, None], axis=1))
        return jnp.where(real_B1, new_BK, message_BK), posterior_BK

    slices = filter_LBK, predicted_LBK, real_LB[..., None], fresh_LB[..., None]
    _, posterior_LBK = jax.lax.scan(step, jnp.zeros_like(filter_LBK[0]), slices, reverse=True)
    return masks.fill(_swap(posterior_LBK), mask_BL)


def log_likelihood(start_K, transition_KK, score_BLK, state_BK=None, *, mask_BL=None, reset_BL=None):
    """log p(x_1..L) (B,), the sum over all paths; its gradients are the expected counts (Fisher's identity)."""
    return filter(start_K, transition_KK, score_BLK, state_BK, mask_BL=mask_BL, reset_BL=reset_BL)[1].sum(1)


def viterbi(start_K, transition_KK, score_BLK, state_BK=None, *, mask_BL=None, reset_BL=None):
    """The best path (B, L), int32, zero where masked, and its log-weight (B,). Of equal states the first is taken."""
    real_LB, fresh_LB = _flags(score_BLK, state_BK, mask_BL, reset_BL)
    best_BK = jnp.zeros_like(score_BLK[:, 0], jnp.float32) if state_BK is None else state_BK

    def step(best_BK, slices):
        score_BK, real_B1, fresh_B1 = slices
        step_BKK = jnp.where(fresh_B1[..., None], start_K[None, None], transition_KK[None])
        reached_BKK = best_BK[:, :, None] + step_BKK
        new_BK, before_BK = jnp.max(reached_BKK, axis=1) + score_BK, jnp.argmax(reached_BKK, axis=1)
        return jnp.where(real_B1, new_BK, best_BK), before_BK

    slices = _swap(score_BLK), real_LB[..., None], fresh_LB[..., None]
    best_BK, before_LBK = jax.lax.scan(step, best_BK, slices)

    def back(z_B, slices):
        before_BK, real_B = slices
        before_B = jnp.take_along_axis(before_BK, z_B[:, None], axis=1)[:, 0]
        return jnp.where(real_B, before_B, z_B), z_B

    _, path_LB = jax.lax.scan(back, jnp.argmax(best_BK, axis=1), (before_LBK, real_LB), reverse=True)
    return masks.fill(path_LB.T.astype(jnp.int32), mask_BL), jnp.max(best_BK, axis=1)


def _forward(start_K, transition_KK, score_BLK, state_BK, mask_BL, reset_BL):
    real_LB, fresh_LB = _flags(score_BLK, state_BK, mask_BL, reset_BL)
    state_BK = jnp.zeros_like(score_BLK[:, 0], jnp.float32) if state_BK is None else state_BK

    def step(state_BK, slices):
        score_BK, real_B1, fresh_B1 = slices
        predicted_BK = _sum(state_BK[:, :, None] + transition_KK[None], axis=1)
        predicted_BK = jnp.where(fresh_B1, start_K[None], predicted_BK)
        joint_BK = predicted_BK + score_BK
        evidence_B1 = _sum(joint_BK, axis=1)[:, None]
        new_BK = joint_BK - jnp.where(evidence_B1 == -jnp.inf, 0, evidence_B1)
        state_BK = jnp.where(real_B1, new_BK, state_BK)
        return state_BK, (state_BK, jnp.where(real_B1, evidence_B1, 0)[:, 0], predicted_BK)

    score_LBK = _swap(masks.fill(score_BLK, mask_BL))
    state_BK, out = jax.lax.scan(step, state_BK, (score_LBK, real_LB[..., None], fresh_LB[..., None]))
    return out, state_BK


def _flags(score_BLK, state_BK, mask_BL, reset_BL):
    """Which tokens are real, and which of these start a document: time first."""
    B, L, _ = score_BLK.shape
    masks.check(mask_BL, (B, L))
    masks.check(reset_BL, (B, L), "reset_BL")
    real_BL = jnp.ones((B, L), bool) if mask_BL is None else mask_BL
    empty_B1 = jnp.ones((B, 1), bool) if state_BK is None else jnp.all(state_BK == 0, axis=1, keepdims=True)
    fresh_BL = real_BL & (jnp.cumsum(real_BL, axis=1) == 1) & empty_B1
    return real_BL.T, (fresh_BL if reset_BL is None else fresh_BL | (reset_BL & real_BL)).T


def _swap(a_BLX):
    return jnp.swapaxes(a_BLX, 0, 1)


def _sum(log_X, axis):
    """log sum exp; -inf, with gradient zero, if all are -inf."""
    peak_X = jax.lax.stop_gradient(jnp.max(log_X, axis=axis, keepdims=True))
    peak_X = jnp.where(peak_X == -jnp.inf, 0, peak_X)
    total_X = jnp.sum(jnp.exp(log_X - peak_X), axis=axis)
    some_X = total_X > 0
    return jnp.where(some_X, jnp.log(jnp.where(some_X, total_X, 1)) + jnp.squeeze(peak_X, axis), -jnp.inf)
