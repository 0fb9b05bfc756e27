"""Scans of `chain` over a semiring: (logsumexp, +) for sums over paths, (max, +) for the best one. Time comes first.

Weights and states are logs, and -inf stands for what is forbidden. A state is kept normalised: its sum in the semiring
is 0, and what was taken from it is the evidence of the token. So numbers stay small at any length.
"""

from collections.abc import Callable
from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp

UNROLLED = 64  # states up to which a product is written out


class Chain(NamedTuple):
    """The weights of all paths. If all tokens share a transition, the scans close over it."""

    start_K: jax.Array
    transition: jax.Array  # (K, K), or (L, B, K, K): into each token
    score_LBK: jax.Array
    state_BK: jax.Array
    real_LB: jax.Array | None  # None: all are real
    fresh_LB: jax.Array  # the real ones that start a document

    @property
    def flags(self):
        """`real` (None: all are) and `fresh`, (L, B, 1)."""
        return None if self.real_LB is None else self.real_LB[..., None], self.fresh_LB[..., None]

    @property
    def slices(self):
        """What a scan reads of each token: its score, transition (None: the shared one) and flags.

        The flags are as wide as a state: spread inside the loop they would take most of its time if K is small.
        """
        wide = [
            None if flag_LB1 is None else jnp.broadcast_to(flag_LB1, self.score_LBK.shape) for flag_LB1 in self.flags
        ]
        return self.score_LBK, self.own(self.transition), *wide

    def own(self, transition):
        """A transition that each token has for itself, or None."""
        return transition if transition.ndim == 4 else None


class Semiring(NamedTuple):
    """A sum, whose products with + are taken of logs."""

    product: Callable  # (B, K) and (1 or B, K, K) -> (B, K)
    total: Callable  # over an axis


def forward(semiring: Semiring, chain: Chain):
    """Of each token: the normalised state (L, B, K), what it was predicted to be (L, B, K), the evidence (L, B)."""

    def step(state_BK, slices):
        score_BK, own_BKK, real_BK, fresh_BK = slices
        move_XKK = chain.transition[None] if own_BKK is None else own_BKK
        predicted_BK = jnp.where(fresh_BK, chain.start_K[None], semiring.product(state_BK, move_XKK))
        joint_BK = predicted_BK + score_BK
        evidence_B1 = semiring.total(joint_BK, axis=1)[:, None]
        state_BK = keep(real_BK, joint_BK - finite(evidence_B1), state_BK)
        return state_BK, (state_BK, predicted_BK, evidence_B1[:, 0])

    _, (state_LBK, predicted_LBK, evidence_LB) = jax.lax.scan(step, chain.state_BK, chain.slices)
    return state_LBK, predicted_LBK, keep(chain.real_LB, evidence_LB, 0.0)


def walk(state_LBK, chain: Chain):
    """A path from its last token to its first: (L, B) int32, and the scores (B, K) of states before the first token.

    Each z_t is the best of state_t + transition[:, z_{t+1}]. So the states of `forward` with MAX give the best path,
    and those with LOG a path from the posterior if Gumbel noise has been added to them.
    """

    def step(onward_BK, slices):
        state_BK, (_, own_BKK, real_BK, fresh_BK) = slices
        z_B = jnp.argmax(state_BK + onward_BK, axis=1).astype(jnp.int32)
        into_BK = chain.transition.T[z_B] if own_BKK is None else jax.vmap(lambda a, z: a[:, z])(own_BKK, z_B)
        return keep(real_BK, jnp.where(fresh_BK, 0.0, into_BK), onward_BK), z_B

    onward_BK, path_LB = jax.lax.scan(step, jnp.zeros_like(chain.state_BK), (state_LBK, chain.slices), reverse=True)
    return path_LB, onward_BK


def _log_product(state_BK, move_XKK):
    return total(state_BK[:, :, None] + move_XKK, 1)


def total(log_X, axis: int):
    """log sum exp over an axis; -inf if all are."""
    peak_X = finite(jnp.max(log_X, axis=axis, keepdims=True))
    return jnp.log(jnp.sum(jnp.exp(log_X - peak_X), axis=axis)) + jnp.squeeze(peak_X, axis)


def _best_product(state_BK, move_XKK):
    K = state_BK.shape[1]
    if K > UNROLLED:
        return jnp.max(state_BK[:, :, None] + move_XKK, axis=1)
    # As a tree of elementwise operations it is about twice as fast as a reduction, on a CPU.
    level = [state_BK[:, j : j + 1] + move_XKK[:, j] for j in range(K)]
    while len(level) > 1:
        level = [reduce(jnp.maximum, level[i : i + 2]) for i in range(0, len(level), 2)]
    return level[0]


LOG = Semiring(_log_product, total)
MAX = Semiring(_best_product, jnp.max)


def before(a_LBX, first_BX, real_LB):
    """The entry of the real token before each token; `first_BX` before the first one."""
    all_LBX = jnp.concatenate([first_BX[None], a_LBX])
    if real_LB is None:
        return all_LBX[:-1]
    return jnp.take_along_axis(all_LBX, last_real(real_LB)[:-1, :, None], axis=0)


def last(a_LBX, first_BX, real_LB):
    """The entry of the last real token; `first_BX` if there is none."""
    if real_LB is None:
        return a_LBX[-1]
    return jnp.take_along_axis(jnp.concatenate([first_BX[None], a_LBX]), last_real(real_LB)[-1:, :, None], axis=0)[0]


def last_real(real_LB):
    """One more than the number of the last real token before each place, 0 if there is none: (L + 1, B)."""
    number_LB = jnp.where(real_LB, jnp.arange(1, len(real_LB) + 1)[:, None], 0)
    return jnp.pad(jax.lax.cummax(number_LB, axis=0), [(1, 0), (0, 0)])


def keep(real_X, new, old):
    """`new` at real tokens, `old` at masked ones."""
    return new if real_X is None else jnp.where(real_X, new, old)


def finite(log_X):
    """0 in the place of -inf: what can be subtracted from logs that are all -inf."""
    return jnp.where(log_X == -jnp.inf, 0, log_X)
