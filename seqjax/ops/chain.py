"""Chains of K hidden states: the sums and maxima over all paths of hidden Markov models and conditional random fields.

A path z has the log-weight start[z_1] + score[1, z_1] + the sum over t > 1 of transition[z_{t-1}, z_t] + score[t, z_t].
In a hidden Markov model this is log p(x, z); in a conditional random field the weights are any numbers. All functions
read the same arguments:

  start_K: log p of the first state.
  transition: log p of moving from a state, (row, column) to the next: (K, K), or (B, L, K, K) if each token has its own
    from the state before it to its own. The one of a token that starts a document is not read.
  score_BLK: log p of what is observed at a token, given its state.
  state_BK: the normalised filter, log p(z_t | x_1..t), float32. All zeros, or None: no token has been read yet.
  mask_BL: False: the token does not exist, and its results are zero. reset_BL: True: the token starts a document.

-inf forbids a state or a transition. The documents of a row are independent; what there is one of per row adds up over
them. If the whole document is impossible, its states are -inf from the first impossible token on.

The scans compute one token after the other, on every platform: on a CPU `jax.lax.associative_scan` takes 6 to 50 times
as long (docs/speed.md). Their backward passes are written by hand and keep no (K, K) of a token.

Rabiner 1989, "A tutorial on hidden Markov models", https://doi.org/10.1109/5.18626; Lafferty et al. 2001, "Conditional
random fields: probabilistic models for segmenting and labeling sequence data".
"""

import jax
import jax.numpy as jnp

from seqjax import masks
from seqjax.ops import _scaled
from seqjax.ops import _semiring as semiring
from seqjax.ops._product import wide
from seqjax.ops._semiring import Chain


def filter(start_K, transition, score_BLK, state_BK=None, *, mask_BL=None, reset_BL=None):
    """log p(z_t | x_1..t) (B, L, K), the evidence log p(x_t | x_1..t-1) (B, L), and the last state (B, K).

    After an impossible token, which has the evidence -inf, the filter and the evidence are -inf to the end of the
    document. Gradients pass through all three.

    Raises:
      ValueError: an array or a mask has the wrong shape.
    """
    chain = _chain(start_K, transition, score_BLK, state_BK, mask_BL, reset_BL)
    filter_LBK, evidence_LB = _scaled.run(chain)
    last_BK = semiring.last(filter_LBK, chain.state_BK, chain.real_LB)
    return masks.fill(_swap(filter_LBK), mask_BL), _swap(evidence_LB), last_BK


def smooth(start_K, transition, score_BLK, state_BK=None, *, mask_BL=None, reset_BL=None):
    """log p(z_t | x_1..L), the posterior given the whole document: (B, L, K). No gradient passes.

    Arguments and errors are those of `filter`.
    """
    chain = _chain(start_K, transition, score_BLK, state_BK, mask_BL, reset_BL)
    return masks.fill(_swap(_scaled.posterior(jax.lax.stop_gradient(chain))), mask_BL)


def log_likelihood(start_K, transition, score_BLK, state_BK=None, *, mask_BL=None, reset_BL=None):
    """log p(x_1..L), the log of the sum over all paths: (B,).

    Its gradients by start, transition and score are the expected counts of first states, moves and states, and that by
    the score is the posterior (Fisher's identity). A row that is impossible passes none. The backward pass keeps two
    (B, L, K) arrays, and no (K, K) of a token. Arguments and errors are those of `filter`.
    """
    _, evidence_BL, _ = filter(start_K, transition, score_BLK, state_BK, mask_BL=mask_BL, reset_BL=reset_BL)
    total_B = jnp.sum(evidence_BL, axis=1)
    return jnp.where(total_B > -jnp.inf, total_B, -jnp.inf)  # no gradient by what came before an impossible token


def viterbi(start_K, transition, score_BLK, state_BK=None, *, mask_BL=None, reset_BL=None):
    """The best path (B, L), int32, and its log-weight (B,).

    The gradients of the log-weight are the counts of first states, moves and states on this path. Of equal states the
    first is taken. If no path is possible, the log-weight is -inf, the path is any, and no gradient passes. Arguments
    and errors are those of `filter`.
    """
    path_LB, score_B = _best(_chain(start_K, transition, score_BLK, state_BK, mask_BL, reset_BL))
    return masks.fill(_swap(path_LB), mask_BL), score_B


def weight(path_BL, start_K, transition, score_BLK, *, mask_BL=None, reset_BL=None):
    """The log-weight of a path (B, L) of states: (B,). Arguments and errors are those of `filter`."""
    chain = _chain(start_K, transition, score_BLK, None, mask_BL, reset_BL)
    path_LB = masks.fill(jnp.asarray(path_BL), mask_BL).T
    before_LB = semiring.before(path_LB[..., None], jnp.zeros_like(path_LB[:1].T), chain.real_LB)[..., 0]
    chosen_LBK = path_LB[..., None] == jnp.arange(chain.start_K.shape[0])[None, None]
    picked_LB = jnp.sum(jnp.where(chosen_LBK, chain.score_LBK, 0), axis=2)
    if transition.ndim == 2:
        moved_LB = chain.transition[before_LB, path_LB]
    else:
        into_LBK = jnp.take_along_axis(chain.transition, before_LB[..., None, None], axis=2)[:, :, 0]
        moved_LB = jnp.sum(jnp.where(chosen_LBK, into_LBK, 0), axis=2)
    entered_LB = jnp.where(chain.fresh_LB, chain.start_K[path_LB], moved_LB)
    return jnp.sum(semiring.keep(chain.real_LB, entered_LB + picked_LB, 0.0), axis=0)


def sample(key, start_K, transition, score_BLK, state_BK=None, *, mask_BL=None, reset_BL=None):
    """A path (B, L), int32, drawn from the posterior p(z | x). If x is impossible, the path is any.

    Arguments and errors are those of `filter`.
    """
    chain = _chain(start_K, transition, score_BLK, state_BK, mask_BL, reset_BL)
    (filter_LBK, *_), _ = _scaled.forward(chain)
    noise_LBK = jax.random.gumbel(key, filter_LBK.shape, filter_LBK.dtype)
    return masks.fill(_swap(semiring.walk(filter_LBK + noise_LBK, chain)[0]), mask_BL)


def n_best(n: int, start_K, transition, score_BLK, *, mask_BL=None, reset_BL=None):
    """The n best different paths (B, n, L), int32, and their log-weights (B, n), the best first.

    If fewer than n are possible, the others have the log-weight -inf and are any paths. Arguments and errors are those
    of `filter`; n must be at least 1.
    """
    if n < 1:
        raise ValueError(f"n={n}, wanted the number of paths: choose at least 1.")
    chain = _chain(start_K, transition, score_BLK, None, mask_BL, reset_BL)
    B, K = chain.state_BK.shape

    def step(best_BKN, slices):
        score_BK, own_BKK, real_BK, fresh_BK = slices
        move_XKK = chain.transition[None] if own_BKK is None else own_BKK
        move_BKK = jnp.where(fresh_BK[:, None], chain.start_K[None, None], move_XKK)
        every_BMK = (best_BKN[..., None] + move_BKK[:, :, None]).reshape(B, K * n, K)
        best_of_BKN, origin_BKN = jax.lax.top_k(_swap_last(every_BMK), n)
        joint_BKN = best_of_BKN + score_BK[..., None]
        peak_B11 = jnp.max(joint_BKN, axis=(1, 2), keepdims=True)
        real_BK1 = None if real_BK is None else real_BK[..., None]
        best_BKN = semiring.keep(real_BK1, joint_BKN - semiring.finite(peak_B11), best_BKN)
        return best_BKN, (origin_BKN.reshape(B, K * n), peak_B11[..., 0])

    def back(end_BN, slices):
        origin_BM, real_B1 = slices
        return semiring.keep(real_B1, jnp.take_along_axis(origin_BM, end_BN, axis=1), end_BN), end_BN // n

    # One way to have read nothing: more would count paths twice.
    none_BKN = jnp.full((B, K, n), -jnp.inf, chain.state_BK.dtype).at[:, 0, 0].set(0)
    best_BKN, (origin_LBM, peak_LB1) = jax.lax.scan(step, none_BKN, chain.slices)
    real_LB1, _ = chain.flags
    score_BN, end_BN = jax.lax.top_k(best_BKN.reshape(B, K * n), n)
    _, path_LBN = jax.lax.scan(back, end_BN, (origin_LBM, real_LB1), reverse=True)
    score_BN += jnp.sum(semiring.keep(real_LB1, peak_LB1, 0.0), axis=0)
    return _swap_last(masks.fill(_swap(path_LBN), mask_BL)), score_BN


def _chain(start_K, transition, score_BLK, state_BK, mask_BL, reset_BL) -> Chain:
    (B, L, K), each = score_BLK.shape, transition.ndim == 4
    wanted = dict(start_K=(start_K, (K,)), transition=(transition, (B, L, K, K) if each else (K, K)))
    if state_BK is not None:
        wanted["state_BK"] = state_BK, (B, K)
    for name, (array, shape) in wanted.items():
        if array.shape != shape:
            raise ValueError(f"{name} is {list(array.shape)}, wanted {list(shape)}: make it fit score_BLK.")
    masks.check(mask_BL, (B, L))
    masks.check(reset_BL, (B, L), "reset_BL")

    dtype = wide(score_BLK.dtype)
    real_BL = jnp.ones((B, L), bool) if mask_BL is None else mask_BL
    fresh_BL = real_BL & (jnp.cumsum(real_BL, axis=1) == 1)
    if state_BK is None:
        state_BK = jnp.zeros((B, K), dtype)
    fresh_BL &= jnp.all(state_BK == 0, axis=1, keepdims=True)
    if reset_BL is not None:
        fresh_BL |= reset_BL & real_BL
    score_LBK = _swap(masks.fill(score_BLK, mask_BL)).astype(dtype)
    transition = (_swap(masks.fill(transition, mask_BL)) if each else transition).astype(dtype)
    real_LB = None if mask_BL is None else mask_BL.T
    return Chain(start_K.astype(dtype), transition, score_LBK, state_BK.astype(dtype), real_LB, fresh_BL.T)


@jax.custom_vjp
def _best(chain):
    return _best_forward(chain)[0]


def _best_forward(chain):
    state_LBK, _, evidence_LB = semiring.forward(semiring.MAX, chain)
    path_LB, onward_BK = semiring.walk(state_LBK, chain)
    score_B = jnp.sum(evidence_LB, axis=0)
    return (path_LB, score_B), (chain, path_LB, jnp.argmax(chain.state_BK + onward_BK, axis=1), score_B > -jnp.inf)


def _best_backward(kept, cotangents):
    chain, path_LB, first_B, possible_B = kept
    g_B = jnp.where(possible_B, cotangents[1], 0)
    once = lambda z_X: jax.nn.one_hot(z_X, chain.start_K.shape[0], dtype=chain.score_LBK.dtype)
    real_LB1, fresh_LB1 = chain.flags
    score_LBK = semiring.keep(real_LB1, once(path_LB) * g_B[None, :, None], 0.0)
    linked_LBK = jnp.where(fresh_LB1, 0, score_LBK)
    before_LBK = semiring.before(once(path_LB), once(first_B), chain.real_LB)
    pairs = "LBJ,LBK->JK" if chain.transition.ndim == 2 else "LBJ,LBK->LBJK"
    moves = jnp.einsum(pairs, before_LBK, linked_LBK, precision="highest")
    # The first state before the row counts if the first real token does not start a document.
    begins_LB = semiring.before(jnp.ones_like(path_LB)[..., None], jnp.zeros_like(path_LB[0])[:, None], chain.real_LB)
    state_BK = once(first_B) * jnp.sum(jnp.where(begins_LB == 0, linked_LBK, 0), axis=(0, 2))[:, None]
    return (Chain(jnp.sum(score_LBK - linked_LBK, axis=(0, 1)), moves, score_LBK, state_BK, None, None),)


_best.defvjp(_best_forward, _best_backward)


def _swap(a_BLX):
    return jnp.swapaxes(a_BLX, 0, 1)


def _swap_last(a_XMN):
    return jnp.swapaxes(a_XMN, -1, -2)
