"""Sums over all paths of a chain, with their derivatives: scaled probabilities, or logs where these would underflow.

In the scaled form a token costs one product with exp(transition), K^2 multiplications and no exp or log; all of these
are taken outside the loop. It is exact unless numbers underflow that matter, which is found out afterwards: then the
whole scan runs once more, in logs, with K^2 exps per token. Long unlikely observations of many dimensions need this.

The backward passes keep the filter and the prediction of each token, (L, B, K) each, and no (K, K) of a token.
"""

import jax
import jax.numpy as jnp

from seqjax.ops import _semiring as semiring
from seqjax.ops._semiring import Chain, finite, keep

# In the scaled form, terms below 1e-38 of the best become 0. If the evidence is at least EVIDENCE of what it could be,
# these are below 1e-25 of the sum, and do not count in predictions of at least PREDICTED. What is lost of a message in
# the range MESSAGE is below 1e-38 times its upper bound, and does not count beside the lower one.
EVIDENCE, PREDICTED, MESSAGE = 1e-13, 1e-18, (1e-15, 1e15)


@jax.custom_vjp
def run(chain: Chain):
    """The filter (L, B, K) and the evidence (L, B)."""
    (filter_LBK, _, evidence_LB), _ = forward(chain)
    return filter_LBK, evidence_LB


def _run_forward(chain):
    chain = jax.tree.map(lambda primal: primal.value, chain)
    (filter_LBK, predicted_LBK, evidence_LB), spoilt = forward(chain)
    return (filter_LBK, evidence_LB), (chain, filter_LBK, predicted_LBK, spoilt)


def forward(chain: Chain):
    """(The filter, the prediction, the evidence) as `semiring.forward`, and whether the scaled form would be wrong."""
    found, spoilt = _scaled(chain)
    exact = lambda: semiring.forward(semiring.LOG, chain)
    return jax.lax.cond(spoilt, exact, lambda: found), spoilt


def _scaled(chain):
    start_K, start_peak = _exp(chain.start_K)
    move, move_peak_LB1 = _moves(chain)
    weight_LBK, peak_LB1 = _exp(chain.score_LBK, 1)

    def step(p_BK, slices):
        weight_BK, own_BKK, real_BK, fresh_BK = slices
        predicted_BK = jnp.where(fresh_BK, start_K[None], _times(p_BK, move if own_BKK is None else own_BKK))
        joint_BK = predicted_BK * weight_BK
        evidence_B1 = jnp.sum(joint_BK, axis=1, keepdims=True)
        return keep(real_BK, joint_BK / evidence_B1, p_BK), (predicted_BK, evidence_B1)

    slices = weight_LBK, chain.own(move), *chain.slices[2:]
    _, (predicted_LBK, evidence_LB1) = jax.lax.scan(step, jnp.exp(chain.state_BK), slices)
    real_LB1, fresh_LB1 = chain.flags
    low_LBK = keep(real_LB1, ~(predicted_LBK >= PREDICTED), False)  # also NaN
    spoilt = jnp.any(keep(real_LB1, ~(evidence_LB1 >= EVIDENCE), False))

    shift_LB1 = jnp.where(fresh_LB1, start_peak[None, None], move_peak_LB1)
    predicted_LBK = jnp.log(predicted_LBK) + shift_LB1
    evidence_LB1 = keep(real_LB1, jnp.log(evidence_LB1) + shift_LB1 + peak_LB1, 0.0)
    filter_LBK = predicted_LBK + chain.score_LBK - evidence_LB1

    def lost():
        """Whether a low prediction is of a state that can be reached."""
        able_LBK = semiring.before(filter_LBK, chain.state_BK, chain.real_LB) > -jnp.inf
        reached_LBK = _times(able_LBK.astype(move.dtype), (chain.transition > -jnp.inf).astype(move.dtype)) > 0
        return jnp.any(low_LBK & jnp.where(fresh_LB1, chain.start_K[None, None] > -jnp.inf, reached_LBK))

    spoilt = jax.lax.cond(~spoilt & jnp.any(low_LBK), lost, lambda: spoilt)
    return (filter_LBK, predicted_LBK, evidence_LB1[..., 0]), spoilt


def _run_backward(kept, cotangents):
    chain, filter_LBK, predicted_LBK, spoilt = kept
    g_LBK, g_LB = cotangents
    # The gradient of a likelihood has none by the filter: an array less to keep.
    g_LBK = None if _is_zero(g_LBK) else jnp.where(filter_LBK > -jnp.inf, g_LBK, 0)
    g_LB1 = (jnp.zeros_like(filter_LBK[..., 0]) if _is_zero(g_LB) else g_LB)[..., None]
    arrays = g_LBK, g_LB1, filter_LBK, predicted_LBK
    branches = lambda: _back_exact(chain, *arrays), lambda: _back_scaled(chain, *arrays)
    dscore_LBK, dstate_BK, dtransition = jax.lax.cond(spoilt, *branches)
    dstart_K = jnp.sum(jnp.where(chain.fresh_LB[..., None], dscore_LBK, 0), axis=(0, 1))
    return (Chain(dstart_K, dtransition, dscore_LBK, dstate_BK, None, None),)


run.defvjp(_run_forward, _run_backward, symbolic_zeros=True)


def _is_zero(cotangent) -> bool:
    return isinstance(cotangent, jax.custom_derivatives.SymbolicZero)


def _through(g_BK, later_BK, g_B1, p_BK, real_BK):
    """The gradient by a prediction, also that by the score, from those by the filter (its own, later) and evidence."""
    g_BK = later_BK if g_BK is None else g_BK + later_BK
    return keep(real_BK, g_BK - p_BK * (jnp.sum(g_BK, axis=1, keepdims=True) - g_B1), 0.0)


def _back_scaled(chain, g_LBK, g_LB1, filter_LBK, predicted_LBK):
    move, move_peak_LB1 = _moves(chain)
    unlinked_LBK = chain.fresh_LB[..., None] | (predicted_LBK == -jnp.inf)
    p_LBK, inverse_LBK = jnp.exp(filter_LBK), jnp.where(unlinked_LBK, 0, jnp.exp(move_peak_LB1 - predicted_LBK))

    def step(message_BK, slices):
        g_BK, g_B1, p_BK, inverse_BK, own_BKK, real_BK = slices
        d_BK = _through(g_BK, p_BK * message_BK, g_B1, p_BK, real_BK)
        ratio_BK = d_BK * inverse_BK
        back = jnp.swapaxes(move if own_BKK is None else own_BKK, -1, -2)
        return keep(real_BK, _times(ratio_BK, back), message_BK), (d_BK, ratio_BK)

    slices = g_LBK, g_LB1, p_LBK, inverse_LBK, chain.own(move), chain.slices[2]
    message_BK, (d_LBK, ratio_LBK) = jax.lax.scan(step, jnp.zeros_like(chain.state_BK), slices, reverse=True)
    state_BK = jnp.exp(chain.state_BK)
    before_LBK = semiring.before(p_LBK, state_BK, chain.real_LB)
    pairs = "LBJ,LBK->JK" if move.ndim == 2 else "LBJ,LBK->LBJK"
    dtransition = move * jnp.einsum(pairs, before_LBK, ratio_LBK, precision="highest")
    return d_LBK, state_BK * message_BK, dtransition


def _back_exact(chain, g_LBK, g_LB1, filter_LBK, predicted_LBK):
    shared = chain.transition.ndim == 2

    def step(carry, slices):
        message_BK, sum_BKK = carry
        g_BK, g_B1, filter_BK, predicted_BK, before_BK, (_, own_BKK, real_BK, fresh_BK) = slices
        d_BK = _through(g_BK, message_BK, g_B1, jnp.exp(filter_BK), real_BK)
        move_XKK = chain.transition[None] if shared else own_BKK
        pair_BKK = jnp.exp(before_BK[:, :, None] + move_XKK - finite(predicted_BK)[:, None])
        pair_BKK = jnp.where(fresh_BK[:, None], 0, pair_BKK) * d_BK[:, None]
        message_BK = keep(real_BK, jnp.sum(pair_BKK, axis=2), message_BK)
        sum_BKK, own_BKK = (sum_BKK + pair_BKK, None) if shared else (None, pair_BKK)
        return (message_BK, sum_BKK), (d_BK, own_BKK)

    before_LBK = semiring.before(filter_LBK, chain.state_BK, chain.real_LB)
    zeros_BK = jnp.zeros_like(chain.state_BK)
    sum_BKK = zeros_BK[:, :, None] * zeros_BK[:, None] if shared else None
    slices = g_LBK, g_LB1, filter_LBK, predicted_LBK, before_LBK, chain.slices
    (dstate_BK, sum_BKK), (d_LBK, own) = jax.lax.scan(step, (zeros_BK, sum_BKK), slices, reverse=True)
    return d_LBK, dstate_BK, jnp.sum(sum_BKK, axis=0) if shared else own


def posterior(chain: Chain):
    """log p(z_t | the whole document): (L, B, K)."""
    (filter_LBK, _, evidence_LB), spoilt = forward(chain)
    found_LBK, small = _smooth_scaled(chain, filter_LBK, evidence_LB)
    exact = lambda: _smooth_exact(chain, evidence_LB)
    log_LBK = filter_LBK + jax.lax.cond(spoilt | small, exact, lambda: found_LBK)
    # What rounding adds up over thousands of tokens is the same for all states.
    return log_LBK - finite(semiring.total(log_LBK, 2))[..., None]


def _smooth_scaled(chain, filter_LBK, evidence_LB):
    """log p(x_t+1.. | z_t) - log p(x_t+1.. | x_1..t), and whether it is wrong because of underflow."""
    move, move_peak_LB1 = _moves(chain)
    weight_LBK = jnp.exp(chain.score_LBK + move_peak_LB1 - finite(evidence_LB)[..., None])

    def step(message_BK, slices):
        weight_BK, own_BKK, real_BK, fresh_BK = slices
        back = jnp.swapaxes(move if own_BKK is None else own_BKK, -1, -2)
        new_BK = jnp.where(fresh_BK, 1, _times(message_BK * weight_BK, back))
        return keep(real_BK, new_BK, message_BK), message_BK

    slices = weight_LBK, chain.own(move), *chain.slices[2:]
    _, message_LBK = jax.lax.scan(step, jnp.ones_like(chain.state_BK), slices, reverse=True)
    least, most = MESSAGE
    far_LBK = (filter_LBK > -jnp.inf) & ~((message_LBK >= least) & (message_LBK <= most))
    return jnp.log(message_LBK), jnp.any(keep(chain.flags[0], far_LBK, False))


def _smooth_exact(chain, evidence_LB):
    def step(message_BK, slices):
        evidence_B1, (score_BK, own_BKK, real_BK, fresh_BK) = slices
        move_XKK = chain.transition[None] if own_BKK is None else own_BKK
        ahead_BK = message_BK + score_BK - evidence_B1
        new_BK = jnp.where(fresh_BK, 0, semiring.LOG.product(ahead_BK, jnp.swapaxes(move_XKK, 1, 2)))
        return keep(real_BK, new_BK, message_BK), message_BK

    slices = finite(evidence_LB)[..., None], chain.slices
    return jax.lax.scan(step, jnp.zeros_like(chain.state_BK), slices, reverse=True)[1]


def _exp(log_X, axes: int = 1):
    """exp(log - peak) and the peak over the last axes, which stay as 1; a peak of -inf counts as 0."""
    peak_X = finite(jnp.max(log_X, axis=tuple(range(-axes, 0)), keepdims=True))
    return jnp.exp(log_X - peak_X), peak_X


def _moves(chain):
    """exp(transition - peak), and the peak, (1, 1, 1) or (L, B, 1)."""
    move, peak = _exp(chain.transition, 2)
    return move, peak.reshape(1, 1, 1) if move.ndim == 2 else peak[..., 0]


def _times(a_XK, matrix):
    """Rows times the matrix (K, K), or each its own."""
    if matrix.ndim == 2:
        return jnp.matmul(a_XK, matrix, precision="highest")
    return jnp.einsum("...J,...JK->...K", a_XK, matrix, precision="highest")
