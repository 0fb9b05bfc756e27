"""Beam search."""

import dataclasses
import operator
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from seqjax.decoding._base import Decoded, Decoder
from seqjax.decoding._forced import log_p
from seqjax.types import Count, Positive


class Hypotheses(NamedTuple):
    """N continuations of each prompt."""

    log_p_BN: jax.Array  # -inf: there is no such continuation
    count_BN: jax.Array  # of tokens, the end token included
    tokens_BNT: jax.Array  # 0 from `count_BN` on

    def take(self, index_BN) -> "Hypotheses":
        """Those with these numbers."""
        return jax.tree.map(lambda a: _rows(a, index_BN), self)

    def beside(self, other: "Hypotheses") -> "Hypotheses":
        """These, followed by the others."""
        return jax.tree.map(lambda one, two: jnp.concatenate([one, two], axis=1), self, other)


class Search(NamedTuple):
    """The search so far."""

    going_B: jax.Array  # False: no live hypothesis of the row can still be among the best
    live: Hypotheses  # the likeliest first
    ended: Hypotheses  # the best first
    state: list  # of the live ones: the arrays (B, N, ...) of the model's state that tokens change


@dataclasses.dataclass(frozen=True)
class Beam(Decoder):
    """Beam search: follows the `beam_size` likeliest continuations at once, and returns those with the best scores.

        score = log p(tokens) / lp(L),   lp(L) = 1 ("none"), L ("average"), ((5 + L) / 6)^alpha ("gnmt")

    L is the number of tokens, the end token included. Each step keeps the 2 k likeliest of all continuations of the k
    live hypotheses by one token. Those of the best k that end leave the beam, and are kept apart; the likeliest k of
    the others live on. A row stops only if no live hypothesis can become one of the results any more, that is, if none
    would have a better score than the worst result if it ended at the limit without losing probability. So a beam that
    holds all continuations finds the best ones. Continuations that reach the limit without an end token come last, and
    only if too few have ended. With `penalty="none"`, a beam of one is greedy.

    `score_BN` of the result is log p, not divided by lp, so that it can be compared with that of other decoders. All
    hypotheses of a row share what no token changes, such as the memory of its source.

    `beam_size`: k. `n_best`: the number of results, the best first; if there are fewer continuations, the others have
      no tokens, and -inf as log p. `alpha`: of "gnmt".
    `min_length`: no continuation ends before it has so many tokens, the end token included.
    `no_repeat_ngram_size`: no continuation has the same n-gram of so many new tokens twice; None: it may.

    The penalty "gnmt": Wu et al. 2016, arXiv:1609.08144, section 7. The bound: Huang et al. 2017, arXiv:1809.00069.
    N-gram blocking: Paulus et al. 2017, arXiv:1705.04304.

    Raises:
      ValueError: `n_best` is larger than `beam_size`; `alpha` is given but not used, or missing; see also `Decoder`.
    """

    beam_size: Count = 5
    n_best: Count = 1
    penalty: Literal["none", "average", "gnmt"] = "average"
    alpha: Positive | None = None
    min_length: Count = 1
    no_repeat_ngram_size: Count | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.n_best > self.beam_size:
            raise ValueError(
                f"n_best={self.n_best} is larger than beam_size={self.beam_size}: ask for fewer, or raise beam_size."
            )
        if (self.alpha is None) == (self.penalty == "gnmt"):
            raise ValueError(
                f"alpha={self.alpha} with penalty={self.penalty!r}: set alpha for 'gnmt' (1.0, for example), and None "
                "for other penalties."
            )

    def normalised(self, log_p, count):
        """The score, log p / lp(L), of continuations of `count` tokens."""
        if self.penalty == "none":
            return log_p
        count = jnp.maximum(count, 1).astype(jnp.float32)
        return log_p / (count if self.penalty == "average" else ((5 + count) / 6) ** self.alpha)

    def score(self, net, reads, target_BT, target_mask_BT):
        """The scores (B,) of given continuations of the prompts, padded on the right, in one pass."""
        return self.normalised(log_p(net, reads, target_BT, target_mask_BT), jnp.sum(target_mask_BT, axis=1))

    def __call__(self, net, reads, key) -> Decoded:
        logits_BV, state, most_B, T = self.read(net, reads)
        (B, V), k = logits_BV.shape, self.beam_size
        leaves, tree = jax.tree.flatten(state)
        shared = _shared(net, state)

        def none(N):
            return Hypotheses(jnp.full((B, N), -jnp.inf), jnp.zeros((B, N), int), jnp.zeros((B, N, T), int))

        def read(token_B, moving):
            """One step of one hypothesis of each row, from the arrays of its state that tokens change."""
            moving = iter(moving)
            state = tree.unflatten([a if same else next(moving) for a, same in zip(leaves, shared, strict=True)])
            logits_BV, state = net.step(token_B, state)
            return logits_BV, _others(jax.tree.leaves(state), shared)

        def extend(t, logits_BkV, search: Search) -> Search:
            log_p_BkV = jax.nn.log_softmax(logits_BkV.astype(jnp.float32))
            log_p_BkV = jnp.where(self._may(t, search.live.tokens_BNT, V), log_p_BkV, -jnp.inf)
            every_BX = (search.live.log_p_BN[:, :, None] + log_p_BkV).reshape(B, k * V)
            log_p_BC, place_BC = jax.lax.top_k(every_BX, min(2 * k, k * V))
            parent_BC, token_BC = place_BC // V, place_BC % V
            tokens_BCT = _rows(search.live.tokens_BNT, parent_BC).at[:, :, t].set(token_BC)
            found = Hypotheses(log_p_BC, jnp.full(log_p_BC.shape, t + 1), tokens_BCT)
            ends_BC = token_BC == (-1 if self.spec.end is None else self.spec.end)
            ending_BC = ends_BC & (jnp.arange(ends_BC.shape[1]) < k)[None]
            ended = search.ended.beside(found._replace(log_p_BN=jnp.where(ending_BC, log_p_BC, -jnp.inf)))
            score_BN, best_BN = jax.lax.top_k(self.normalised(ended.log_p_BN, ended.count_BN), self.n_best)
            _, on_Bk = jax.lax.top_k(jnp.where(ends_BC, -jnp.inf, log_p_BC), k)
            live = found._replace(log_p_BN=jnp.where(ends_BC, -jnp.inf, log_p_BC)).take(on_Bk)
            bound_B = self.normalised(live.log_p_BN[:, 0], most_B)
            going_B = (t + 1 < most_B) & (bound_B > score_BN[:, -1])
            new, old = (going_B, live, ended.take(best_BN)), search[:3]
            keep = lambda one, two: jnp.where(search.going_B.reshape(B, *(1,) * (one.ndim - 1)), one, two)
            parent_Bk = _rows(parent_BC, on_Bk)
            return Search(*jax.tree.map(keep, new, old), [_rows(a, parent_Bk) for a in search.state])

        def step(t, search: Search) -> Search:
            logits_BkV, state = jax.vmap(read, in_axes=1, out_axes=1)(search.live.tokens_BNT[:, :, t - 1], search.state)
            return extend(t, logits_BkV, search._replace(state=state))

        one = none(k)._replace(log_p_BN=jnp.broadcast_to(jnp.where(jnp.arange(k) == 0, 0.0, -jnp.inf), (B, k)))
        copies = lambda a: jnp.broadcast_to(a[:, None], (B, k, *a.shape[1:]))
        start = Search(jnp.ones(B, bool), one, none(self.n_best), [copies(a) for a in _others(leaves, shared)])
        search = extend(0, copies(logits_BV), start)
        go_on = lambda carry: (carry[0] < T) & jnp.any(carry[1].going_B)
        _, search = jax.lax.while_loop(go_on, lambda carry: (carry[0] + 1, step(*carry)), (1, search))
        return self._results(search)

    def _may(self, t, tokens_BNT, V: int):
        """Which tokens may come next, (B, N, V)."""
        B, N, T = tokens_BNT.shape
        may_V = jnp.ones(V, bool) if self.spec.end is None else jnp.arange(V) != self.spec.end
        may_BNV = jnp.broadcast_to(may_V | (t + 1 >= self.min_length), (B, N, V))
        n = self.no_repeat_ngram_size
        if n is None or n > T:
            return may_BNV
        begin_I = jnp.arange(T - n + 1)
        again_BNI = jnp.broadcast_to(begin_I + n <= t, (B, N, T - n + 1))  # n-grams that end before t, and begin
        for j in range(n - 1):  # like the last n - 1 tokens
            last_BN1 = jax.lax.dynamic_slice_in_dim(tokens_BNT, t - n + 1 + j, 1, axis=2)
            again_BNI &= tokens_BNT[:, :, j : j + T - n + 1] == last_BN1
        rows = jnp.arange(B)[:, None, None], jnp.arange(N)[None, :, None]
        return may_BNV.at[*rows, tokens_BNT[:, :, n - 1 :]].min(~again_BNI)

    def _results(self, search: Search) -> Decoded:
        """The best continuations that ended; in places that are left, those that were cut at the limit."""
        ended_B1 = jnp.sum(jnp.isfinite(search.ended.log_p_BN), axis=1, keepdims=True)
        place_1N = jnp.arange(self.n_best)[None]
        index_BN = jnp.where(place_1N < ended_B1, place_1N, self.n_best + place_1N - ended_B1)
        log_p_BN, count_BN, tokens_BNT = search.ended.beside(search.live).take(index_BN)
        count_BN = jnp.where(jnp.isfinite(log_p_BN), count_BN, 0)
        mask_BNT = jnp.arange(tokens_BNT.shape[2])[None, None] < count_BN[:, :, None]
        return Decoded(jnp.where(mask_BNT, tokens_BNT, 0), mask_BNT, log_p_BN)


def _shared(net, state) -> list[bool]:
    """Which arrays of a state no token changes."""
    found = []

    def look(token_B, state):
        _, after = net.step(token_B, state)
        found.extend(map(operator.is_, jax.tree.leaves(after), jax.tree.leaves(state)))

    jax.eval_shape(look, jnp.zeros(len(jax.tree.leaves(state)[0]), int), state)
    return found


def _others(leaves: list, shared: list[bool]) -> list:
    """The arrays of a state that tokens change."""
    return [a for a, same in zip(leaves, shared, strict=True) if not same]


def _rows(a_BNx, index_BM):
    """Picks along the second axis: (B, N, ...), (B, M) -> (B, M, ...)."""
    return jax.vmap(lambda a, index: a[index])(a_BNx, index_BM)


Decoder = Beam
