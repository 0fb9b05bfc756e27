"""Chains of hidden states against all K^L paths, one by one, and against other libraries."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.ops import _scaled, chain

RNG = np.random.default_rng(0)
L, K, N = 5, 3, 4
ROWS = ["plain", "mask", "reset", "mask+reset", "state", "state+mask+reset", "empty", "empty+state"]
NO = -np.inf


def log(p):
    with np.errstate(divide="ignore"):
        return np.log(p)


def simplex(*shape):
    """Logs of random probabilities over the last axis."""
    return log(RNG.dirichlet(np.ones(shape[-1]), shape[:-1]))


def lse(w, axis=None):
    peak = np.max(w, axis=axis, keepdims=True)
    peak = np.where(peak == NO, 0, peak)
    return log(np.sum(np.exp(w - peak), axis=axis)) + np.squeeze(peak, axis)


def documents(real, fresh):
    found = []
    for t in np.flatnonzero(real):
        if not found or fresh[t]:
            found.append([])
        found[-1].append(t)
    return found


def oracle(start, move, score, state, real, fresh):
    """Sums over all paths of one row: each document's paths are listed with their weights."""
    out = dict(filter=np.zeros((L, K)), evidence=np.zeros(L), smooth=np.zeros((L, K)), path=np.zeros(L, int))
    counts = [np.zeros(K), np.zeros((L, K, K)), np.zeros((L, K)), np.zeros(K)]
    hard, ll, score_of, lists = [np.zeros_like(c) for c in counts], 0.0, 0.0, []
    out["state"] = state.copy()
    for number, tokens in enumerate(documents(real, fresh)):
        carried = number == 0 and np.any(state != 0) and not fresh[tokens[0]]
        weights, kinds = {}, range(K) if carried else [None]
        for first, *path in itertools.product(kinds, *[range(K)] * len(tokens)):
            w = start[path[0]] if first is None else state[first] + move[tokens[0], first, path[0]]
            w = np.cumsum([w + score[tokens[0], path[0]]] + [
                move[t, path[i], path[i + 1]] + score[t, path[i + 1]] for i, t in enumerate(tokens[1:])
            ])  # fmt: skip
            weights[(first, *path)] = w
        before = 0.0
        for i, t in enumerate(tokens):  # the shares of the paths up to t
            heads = {z[: i + 2]: w[i] for z, w in weights.items()}
            joint = np.array([lse([w for z, w in heads.items() if z[-1] == k]) for k in range(K)])
            total = lse(joint)
            out["filter"][t] = joint - (0 if total == NO else total)
            out["evidence"][t] = total - before if before > NO else NO
            before = total
        out["state"] = out["filter"][tokens[-1]]
        for z, w in weights.items():
            share = 0 if before == NO else np.exp(w[-1] - before)
            add(counts, z, tokens, share)
        for i, t in enumerate(tokens, start=1):
            each = [lse([w[-1] for z, w in weights.items() if z[i] == k]) for k in range(K)]
            out["smooth"][t] = np.array(each) - (0 if before == NO else before)
        z = max(weights, key=lambda z: weights[z][-1])
        add(hard, z, tokens, 1)
        out["path"][tokens] = z[1:]
        ll, score_of = ll + before, score_of + weights[z][-1]
        lists.append([(w[-1], z[1:]) for z, w in weights.items()])
    out["best"] = sorted((sum(w for w, _ in pick), sum((z for _, z in pick), ())) for pick in itertools.product(*lists))
    return out | dict(log_likelihood=ll, score=score_of, counts=counts, hard=hard)


def add(counts, z, tokens, share):
    """Adds one path: its first state, moves, states, and the state before the row."""
    first, *path = z
    before = first
    for t, k in zip(tokens, path, strict=True):
        counts[2][t, k] += share
        if before is not None:
            counts[1][t, before, k] += share
        before = k
    if first is None:
        counts[0][path[0]] += share
    else:
        counts[3][first] += share


def arguments(size=1.0, each=False):
    """A row for each layout; some moves, first states and scores are forbidden."""
    B = len(ROWS)
    start, move = simplex(K), simplex(B, L, K, K) if each else simplex(K, K)
    move[..., 0, 2], start[1] = NO, NO
    score, state = size * RNG.normal(size=(B, L, K)), np.zeros((B, K))
    score[:, 2, 0] = NO
    real, fresh = np.ones((B, L), bool), np.zeros((B, L), bool)
    for b, layout in enumerate(ROWS):
        if "mask" in layout:
            real[b] = [[0, 1, 1, 0, 1], [1, 0, 1, 1, 0]][b % 2]
        if "reset" in layout:
            fresh[b] = [[0, 0, 1, 0, 1], [0, 1, 0, 1, 1]][b % 2]
        if "state" in layout:
            state[b] = simplex(K)
        if "empty" in layout:
            real[b] = False
    return start, move, score, state, real, fresh


@jax.jit
def everything(start, move, score, state, real, fresh):
    arrays, flags = (start, move, score, state), dict(mask_BL=real, reset_BL=fresh)
    out = dict(zip(("filter", "evidence", "state"), chain.filter(*arrays, **flags), strict=True))
    out["smooth"] = chain.smooth(*arrays, **flags)
    out["log_likelihood"], pull = jax.vjp(lambda *arrays: chain.log_likelihood(*arrays, **flags), *arrays)
    out["counts"] = pull(jnp.ones_like(out["log_likelihood"]))
    (out["path"], out["score"]), pull = jax.vjp(lambda *arrays: chain.viterbi(*arrays, **flags), *arrays)
    out["hard"] = pull((np.zeros(out["path"].shape, jax.dtypes.float0), jnp.ones_like(out["score"])))
    out["spoilt"] = _scaled.forward(chain._chain(*arrays, real, fresh))[1]
    return out


def narrow(*arrays):
    return tuple(a if a.dtype == bool else np.float32(a) for a in arrays)


def compare(args, got):
    """All that `everything` found with the lists of paths."""
    start, move, score, state, real, fresh = args
    moves = np.broadcast_to(move, (len(score), L, K, K))
    wanted = [oracle(start, moves[b], score[b], state[b], real[b], fresh[b]) for b in range(len(score))]
    close = partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-5)
    for name in ("filter", "evidence", "state", "smooth", "log_likelihood", "path", "score"):
        close(got[name], np.stack([w[name] for w in wanted]), err_msg=name)
    for name in ("counts", "hard"):
        first, pairs, states, before = (np.stack(c) for c in zip(*(w[name] for w in wanted), strict=True))
        shared = [first.sum(0), pairs if move.ndim == 4 else pairs.sum((0, 1)), states, before]
        jax.tree.map(partial(close, err_msg=name), list(got[name]), shared)
    return wanted


@pytest.mark.parametrize("each", [False, True])
def test_sums_and_maxima_are_those_over_all_paths(each):
    """Filter, posterior, likelihood, counts, best path; scaled, and in logs where numbers would underflow."""
    for size in (1.0, 300.0):
        args = arguments(size, each)
        got = everything(*narrow(*args))
        assert bool(got["spoilt"]) == (size > 1)
        compare(args, got)
