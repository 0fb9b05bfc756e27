"""Chains of hidden states against all K^L paths, one by one, and against other libraries."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hlo import eight_devices, report

from seqjax.ops import _scaled, chain

RNG = np.random.default_rng(0)
L, K = 5, 3
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
    out["paths"], out["scores"] = chain.n_best(4, start, move, score, **flags)
    of = lambda path_BL: chain.weight(path_BL, start, move, score, **flags)
    out["weights"] = jnp.stack([of(out["paths"][:, n]) for n in range(4)], axis=1)
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
    for row, w in enumerate(wanted):
        if not np.any(state[row]):
            compare_lists(got["paths"][row], got["scores"][row], w["best"], real[row])
            possible = got["scores"][row] > NO
            close(got["weights"][row][possible], got["scores"][row][possible])


def compare_lists(paths, scores, best, real):
    for path, score, (weight, tokens) in itertools.zip_longest(paths, scores, best[:-5:-1], fillvalue=(NO, None)):
        np.testing.assert_allclose(score, weight, rtol=2e-5, atol=2e-5)
        if weight > NO:
            filled = np.zeros(L)
            filled[real] = tokens
            np.testing.assert_array_equal(path, filled)


@pytest.mark.parametrize("each", [False, True])
def test_sums_and_maxima_are_those_over_all_paths(each):
    """Filter, posterior, likelihood, counts, best path; scaled, and in logs where numbers would underflow."""
    for size in (1.0, 300.0):
        args = arguments(size, each)
        got = everything(*narrow(*args))
        assert bool(got["spoilt"]) == (size > 1)
        compare(args, got)


def test_what_is_masked_does_not_count_and_an_impossible_row_harms_no_other():
    start, move, score, state, real, fresh = arguments()
    wanted = everything(*narrow(start, move, score, state, real, fresh))
    hidden = np.where(real[..., None], score, np.nan)
    got = everything(*narrow(start, move, hidden, state, real, fresh | ~real))
    jax.tree.map(np.testing.assert_array_equal, got, wanted)

    rows = np.arange(len(ROWS)) != 0
    without = everything(*narrow(start, move, score, state, real & rows[:, None], fresh))
    for token, array in ((3, score), (0, score), (0, start)):
        impossible = array.copy()
        impossible[(0, token) if array is score else ()] = NO
        args = (impossible, score) if array is start else (start, impossible)
        got = everything(*narrow(args[0], move, args[1], state, real, fresh))
        assert all(np.all(got[name][0, token:] == NO) for name in ("filter", "evidence")) and got["spoilt"]
        assert np.all(got["smooth"][0] == NO) and np.all(got["state"][0] == NO)
        assert got["log_likelihood"][0] == got["score"][0] == NO and np.all(got["scores"][0] == NO)
        assert np.all(np.isfinite(got["evidence"][0, :token]))
        leaves = jax.tree.leaves((got["counts"], got["hard"]))
        assert all(np.isfinite(leaf).all() for leaf in leaves)
        if array is score:
            close = partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-5)
            jax.tree.map(close, [got[n] for n in ("counts", "hard")], [without[n] for n in ("counts", "hard")])


def test_a_state_carried_on_is_the_whole_and_rows_may_be_gathered():
    start, move, score, _, real, fresh = narrow(*arguments())
    run = jax.jit(
        lambda score, state, real, fresh: chain.filter(start, move, score, state, mask_BL=real, reset_BL=fresh)
    )
    first = run(score[:, :2], np.zeros((len(ROWS), K), np.float32), real[:, :2], fresh[:, :2])
    order = np.arange(len(ROWS))[::-1]
    second = run(score[order, 2:], first[2][order], real[order, 2:], fresh[order, 2:])
    whole = everything(start, move, score, np.zeros((len(ROWS), K), np.float32), real, fresh)
    for i, name in enumerate(("filter", "evidence")):
        got = np.concatenate([first[i], second[i][order]], axis=1)
        np.testing.assert_allclose(got, whole[name], rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(second[2][order], whole["state"], rtol=2e-5, atol=2e-5)


def plain(start, move, score, state, real, fresh):
    """The filter in logs, which JAX differentiates by itself."""

    def total(x, axis):
        peak = jax.lax.stop_gradient(jnp.max(x, axis=axis, keepdims=True))
        return jnp.log(jnp.sum(jnp.exp(x - peak), axis=axis)) + jnp.squeeze(peak, axis)

    def step(state, slices):
        score, real, fresh, none = slices
        new = total(state[:, :, None] + move[None], 1)
        joint = jnp.where(fresh | (none & ~jnp.any(state != 0, axis=1, keepdims=True)), start[None], new) + score
        evidence = total(joint, 1)[:, None]
        state = jnp.where(real, joint - evidence, state)
        return state, (jnp.where(real, state, 0), jnp.where(real, evidence, 0)[:, 0])

    none = np.cumsum(real, axis=1) == 1
    slices = (jnp.swapaxes(score, 0, 1), *(a.T[..., None] for a in (real, fresh & real, none & real)))
    last, (states, evidence) = jax.lax.scan(step, state, slices)
    return jnp.swapaxes(states, 0, 1), evidence.T, last


def test_gradients_through_the_filter_are_those_of_plain_autodiff():
    """By all arrays, from all results, scaled and in logs."""
    with jax.enable_x64(True):
        start, move, score, state, real, fresh = arguments()
        start, move = simplex(K), simplex(K, K)
        score[:, 2, 0] = 0
        out = [RNG.normal(size=shape) for shape in (score.shape, score.shape[:2], state.shape)]
        ours = lambda *a: chain.filter(*a, mask_BL=real, reset_BL=fresh)

        @jax.jit
        def both(*arrays):
            found = [jax.vjp(f, *arrays) for f in (ours, lambda *a: plain(*a, real, fresh))]
            return [(y, pull(out)) for y, pull in ((y, lambda g, p=pull: p(tuple(g))) for y, pull in found)]

        for size in (1.0, 300.0):
            got, wanted = both(start, move, size * score, state)
            jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-7, atol=1e-7), got, wanted)


def test_sampled_paths_follow_the_posterior():
    start, move, score, state, real, fresh = arguments()
    rows, drawn = np.array([0, 3, 5]), 3000
    many = lambda a: np.repeat(a[rows], drawn, axis=0)
    draw = jax.jit(lambda *a: chain.sample(jax.random.key(0), *a[:4], mask_BL=a[4], reset_BL=a[5]))
    paths = np.asarray(draw(*narrow(start, move, *map(many, (score, state, real, fresh))))).reshape(3, drawn, L)
    for row, found in zip(rows, paths, strict=True):
        moves = np.broadcast_to(move, (L, K, K))
        _, pairs, states, _ = oracle(start, moves, score[row], state[row], real[row], fresh[row])["counts"]
        assert np.all(found[:, ~real[row]] == 0)
        for t in np.flatnonzero(real[row]):
            share = np.bincount(found[:, t], minlength=K) / drawn
            np.testing.assert_allclose(share, states[t], atol=4 * 0.5 / np.sqrt(drawn))
        for t in np.flatnonzero(real[row, 1:] & real[row, :-1] & ~fresh[row, 1:]) + 1:
            share = np.bincount(K * found[:, t - 1] + found[:, t], minlength=K * K).reshape(K, K) / drawn
            np.testing.assert_allclose(share, pairs[t], atol=4 * 0.5 / np.sqrt(drawn))


def test_a_hidden_markov_model_against_hmmlearn():
    from hmmlearn import hmm

    model = hmm.GaussianHMM(4, "diag", random_state=0)
    model.startprob_, model.transmat_ = np.exp(simplex(4)), np.exp(simplex(4, 4))
    model.means_, model.covars_ = RNG.normal(size=(4, 2)), 0.5 + RNG.random((4, 2))
    lengths = [30, 17, 1]
    x, _ = model.sample(sum(lengths))
    places = np.split(np.arange(len(x)), np.cumsum(lengths)[:-1])
    score, real = np.zeros((3, 30, 4)), np.zeros((3, 30), bool)
    for b, place in enumerate(places):
        score[b, : lengths[b]], real[b, : lengths[b]] = model._compute_log_likelihood(x[place]), True

    @jax.jit
    def ours(*arrays):
        run = lambda f: f(*arrays, mask_BL=real)
        return *map(run, (chain.log_likelihood, chain.smooth, chain.filter)), run(chain.viterbi)

    likelihood, posterior, (filtered, *_), (path, best) = ours(
        *narrow(log(model.startprob_), log(model.transmat_), score)
    )
    for b, (place, n) in enumerate(zip(places, lengths, strict=True)):
        wanted, shares = model.score_samples(x[place])
        np.testing.assert_allclose(likelihood[b], wanted, rtol=1e-5)
        np.testing.assert_allclose(np.exp(posterior[b, :n]), shares, atol=1e-5)
        weight, states = model.decode(x[place])
        np.testing.assert_allclose(best[b], weight, rtol=1e-5)
        np.testing.assert_array_equal(path[b, :n], states)
        for t in (1, n):  # what is filtered is the last posterior of what has been read
            np.testing.assert_allclose(np.exp(filtered[b, t - 1]), model.score_samples(x[place[:t]])[1][-1], atol=1e-5)


def test_a_conditional_random_field_against_crfsuite(tmp_path):
    """Its weights are any numbers, and there is no start."""
    import pycrfsuite

    trainer, words, tags = pycrfsuite.Trainer(verbose=False), "uvwx", "ABC"
    for _ in range(20):
        y = RNG.choice(list(tags), RNG.integers(2, 7))
        trainer.append(
            [[str(RNG.choice(list(words))), f"y={tag if RNG.random() > 0.4 else 'A'}"] for tag in y], list(y)
        )
    trainer.set_params({"max_iterations": 20})
    trainer.train(str(tmp_path / "model"))
    tagger = pycrfsuite.Tagger()
    tagger.open(str(tmp_path / "model"))
    weights, states = tagger.info(), tagger.labels()
    move = np.array([[weights.transitions.get((a, b), 0.0) for b in states] for a in states])
    items = [["u", "y=A"], ["x", "y=B"], ["v", "y=A"], ["w", "y=C"], ["u", "y=B"]]
    score = np.array([[sum(weights.state_features.get((f, s), 0.0) for f in item) for s in states] for item in items])
    arrays = narrow(np.zeros(K), move, score[None])
    ours = jax.jit(lambda *a: (chain.log_likelihood(*a), chain.smooth(*a), *chain.viterbi(*a)))
    normaliser, posterior, (path,), (best,) = ours(*arrays)
    tagger.set(items)
    assert [states[k] for k in path] == tagger.tag()
    np.testing.assert_allclose(np.exp(best - normaliser[0]), tagger.probability(tagger.tag()), rtol=1e-4)
    wanted = [[tagger.marginal(s, t) for s in states] for t in range(L)]
    np.testing.assert_allclose(np.exp(posterior[0]), wanted, atol=1e-5)


def test_a_hidden_markov_model_is_the_conditional_random_field_of_its_logs():
    """Weights of states may move between transition and score, and constants anywhere: only the normaliser moves."""
    start, move, score, state, real, fresh = arguments()
    shift, state, real = RNG.normal(size=K), np.zeros_like(state), np.ones_like(real)
    moved = (start + 3, move - shift[None] + 2, score + shift, state, real, np.zeros_like(fresh))
    moved[0][:] -= shift
    model, field = (everything(*narrow(*a)) for a in ((start, move, score, *moved[3:]), moved))
    for name in ("smooth", "path", "counts", "hard"):
        jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=2e-5, atol=2e-5), field[name], model[name])
    np.testing.assert_allclose(field["log_likelihood"] - model["log_likelihood"], 3 + 2 * (L - 1), rtol=1e-5)


def forward_backward(start, move, score):
    """Per row the logs of the filter, of posterior / filter, and of the likelihood."""
    alpha, beta = np.zeros_like(score), np.zeros_like(score)
    joint, total = start + score[:, 0], 0.0
    for t in range(score.shape[1]):
        if t:
            joint = lse(alpha[:, t - 1, :, None] + move, 1) + score[:, t]
        evidence = lse(joint, 1)
        total, alpha[:, t] = total + evidence, joint - evidence[:, None]
    for t in range(score.shape[1] - 1)[::-1]:
        beta[:, t] = lse(move + (score[:, t + 1] + beta[:, t + 1])[:, None], 2)
        beta[:, t] -= lse(alpha[:, t] + beta[:, t], 1)[:, None]
    return alpha, beta, total


def test_no_underflow_passes_unnoticed():
    """Rows from mild to wild, each with its own choice of the form: all logs are right, also those far below 1e-38."""
    rows, T, S = 600, 12, 4
    spread = RNG.choice([1.0, 5, 15, 40], (3, rows))
    start, move = (
        spread[0, :, None] * RNG.normal(size=(rows, S)),
        spread[1, :, None, None] * RNG.normal(size=(rows, S, S)),
    )
    move[RNG.random(move.shape) < 0.2] = NO
    move[:, np.arange(S), np.arange(S)] = 0
    score = spread[2, :, None, None] * RNG.normal(size=(rows, T, S))
    # State 2 is entered from 0, which becomes 0 in float32, and by far fewer from 1, which does not.
    start[:2], move[:2], score[:2] = NO, NO, 0.0
    move[:2, 0, 2], move[:2, 1, 1], move[:2, 2, 2] = 0.0, 0.0, 0.0
    start[:2, :2], score[:2, 0, :2], move[:2, 1, 2] = [[-10, 0], [0, -29]], [[-88, -60], [-88, 0]], [-41, -59]

    def one(start, move, score):
        spoilt = _scaled.forward(chain._chain(start, move, score[None], None, None, None))[1]
        return chain.filter(start, move, score[None])[0][0], chain.smooth(start, move, score[None])[0], spoilt

    filtered, posterior, spoilt = jax.jit(jax.vmap(one))(*narrow(start, move, score))
    assert 0.2 < np.mean(spoilt) < 0.8
    alpha, beta, _ = forward_backward(start, move, score)
    np.testing.assert_allclose(filtered, alpha, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(posterior, alpha + beta, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["scaled", "logs"])
def test_float32_is_near_float64_over_16k_tokens(kind):
    """Likelihood, filter, posteriors and counts; `logs` is a model of 39 dimensions that moves from left to right."""
    T, S = 16_384, 8
    if kind == "scaled":
        start, move, score = simplex(S), simplex(S, S), 2 * RNG.normal(size=(1, T, S))
    else:
        start, move = np.full(S, NO), np.full((S, S), NO)
        start[0] = 0.0
        for k in range(S):
            move[k, k], move[k, (k + 1) % S] = log(0.99), log(0.01)
        path = np.arange(T) // 100 % S
        mean = RNG.normal(size=(S, 39))
        x = mean[path] + RNG.normal(size=(T, 39))
        score = -0.5 * np.sum((x[None, :, None] - mean) ** 2, axis=-1)

    @jax.jit
    def ours(*arrays):
        value, slopes = jax.value_and_grad(lambda *a: chain.log_likelihood(*a).sum(), (0, 1, 2))(*arrays)
        spoilt = _scaled.forward(chain._chain(*arrays, None, None, None))[1]
        return value, chain.filter(*arrays)[0], chain.smooth(*arrays), slopes, spoilt

    value, filtered, posterior, (first, moves, states), spoilt = ours(*narrow(start, move, score))
    assert bool(spoilt) == (kind == "logs")

    (alpha,), (beta,), (wanted,) = forward_backward(start, move[None], score)
    shares = np.exp(alpha + beta)
    pairs = alpha[:-1, :, None] + move + (score[0] + beta)[1:, None]
    pairs = np.exp(pairs - lse(pairs, (1, 2))[:, None, None]).sum(0)
    np.testing.assert_allclose(value, wanted, rtol=1e-5)
    far = alpha > -80
    np.testing.assert_array_equal(filtered[0] == NO, alpha == NO)
    np.testing.assert_allclose(np.where(far, filtered[0], 0), np.where(far, alpha, 0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.exp(posterior[0]), shares, atol=1e-4)
    np.testing.assert_allclose(states[0], shares, atol=1e-4)
    np.testing.assert_allclose(moves, pairs, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(first, shares[0], atol=1e-4)


def test_the_backward_pass_needs_a_tenth_of_all_transitions():
    """Of K x K numbers for each of 16k tokens; and what is kept for it is (L, B, K)."""
    T, S = 16_384, 64
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((S,), (S, S), (1, T, S))]
    program = jax.jit(jax.grad(lambda *a: chain.log_likelihood(*a).sum(), (0, 1, 2))).lower(*shapes).compile()
    assert program.memory_analysis().temp_size_in_bytes <= 0.1 * T * S * S * 4
    _, pull = jax.eval_shape(lambda *a: jax.vjp(chain.log_likelihood, *a), *shapes)
    assert sum(leaf.size for leaf in jax.tree.leaves(pull)) <= 4 * T * S


def test_half_precision_is_read_in_float32_and_a_batched_choice_is_right():
    """Under vmap a row whose scaled form underflows takes logs, beside one that does not; no gradient is NaN."""
    start, move, score, *_ = narrow(*arguments())
    score = jnp.asarray(score[:2], jnp.bfloat16) * jnp.asarray([1, 300], jnp.bfloat16)[:, None, None]

    def likelihood(score_LK):
        return chain.log_likelihood(start, move, score_LK[None])[0]

    got, slopes = jax.jit(jax.vmap(jax.value_and_grad(likelihood)))(score)
    assert got.dtype == jnp.float32 and slopes.dtype == jnp.bfloat16
    moves = np.broadcast_to(move, (L, K, K))
    for b in range(2):
        wanted = oracle(start, moves, np.float64(score[b]), np.zeros(K), np.ones(L, bool), np.zeros(L, bool))
        np.testing.assert_allclose(got[b], wanted["log_likelihood"], rtol=1e-5)
        np.testing.assert_allclose(np.float32(slopes[b]), wanted["counts"][2], atol=0.01)


def test_what_does_not_fit_is_refused():
    start, move, score, state, real, fresh = narrow(*arguments())
    for wrong, words in [
        (dict(start_K=start[:2]), r"start_K is \[2\], wanted \[3\]"),
        (dict(transition=move[:2]), r"transition is \[2, 3\], wanted \[3, 3\]"),
        (dict(state_BK=state[:1]), r"state_BK is \[1, 3\], wanted \[8, 3\]"),
        (dict(mask_BL=real[:, 1:]), r"mask_BL is bool\[8, 4\], wanted bool\[8, 5\]"),
        (dict(reset_BL=fresh.astype(int)), r"reset_BL is int64\[8, 5\]"),
    ]:
        with pytest.raises(ValueError, match=words):
            chain.filter(**dict(start_K=start, transition=move, score_BLK=score) | wrong)
    with pytest.raises(ValueError, match="n=0, wanted the number of paths"):
        chain.n_best(0, start, move, score)


# ---- Eight devices: no collective inside a loop.


def programs():
    """Name -> (weights, score, mask, reset) -> what is differentiated, and the weights."""
    weights = jnp.zeros(8), jnp.zeros((8, 8))
    call = lambda f: lambda weights, score, mask, reset: f(*weights, score, mask_BL=mask, reset_BL=reset)
    out = {name: (call(getattr(chain, name)), weights) for name in ("log_likelihood",)}
    out["filter"] = lambda *a: call(chain.filter)(*a)[0], weights
    out["viterbi"] = lambda *a: call(chain.viterbi)(*a)[1], weights
    return out


@pytest.mark.slow  # a process of its own, which compiles for eight devices
def test_devices_do_not_meet_inside_a_loop():
    for name, found in eight_devices(__file__).items():
        assert found["loops"] and not found["inside"], name
        assert "all-reduce" in found["all"], "the gradient of the weights is not added up"


if __name__ == "__main__":
    report(programs(), jnp.zeros((8, L, 8)), *(jnp.ones((8, L), bool),) * 2)
