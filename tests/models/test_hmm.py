"""Hidden Markov models: against hmmlearn, sums over all paths, and loops in numpy. The laws are in test_laws.py."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from built import classes, logits
from hmmlearn import hmm as oracle

from seqjax import spec
from seqjax.emissions import _network as network
from seqjax.emissions import categorical, gaussian, mixture, neural
from seqjax.heads.density import Density
from seqjax.models import gmm, hmm
from seqjax.spec import Field, Spec

pytestmark = pytest.mark.usefixtures("compile_once")

B, L, K, V, F = 4, 7, 3, 5, 2
density = functools.partial(Density, outputs=1)
RAGGED = np.arange(L)[None] < np.array([7, 4, 6, 1])[:, None]
TOKENS = spec.tokens(V, L)
REALS = spec.features(F, L)


def tokens(seed=0):
    return np.random.default_rng(seed).integers(0, V, (B, L)).astype(np.int32)


def reals(seed=0):
    """Two clusters, so that states differ."""
    draw = np.random.default_rng(seed)
    return np.float32(draw.normal(size=(B, L, F)) + 3 * draw.integers(0, 2, (B, L, 1)))


def language(**options):
    return hmm.Model(inputs=TOKENS, head=logits(V), **{"states": K, **options})


def frames(covariance="diagonal", **options):
    emission = functools.partial(gaussian.Emission, covariance=covariance, variance_floor=0.0)
    return hmm.Model(inputs=REALS, head=density, **{"states": K, "emission": emission, **options})


def tagger(inputs=None, **options):
    inputs = inputs or Spec({"tokens": Field("ids", size=V), "tags": Field("ids", size=K)}, {"L": L})
    return hmm.Model(inputs=inputs, head=logits(K), **options)


def start(model, x, seed=1):
    return jax.jit(model.init)(jax.random.key(seed), x)["params"]


def ask(model, params, x, method=None, **flags):
    """One compiled program per question."""
    static = {name: flags.pop(name) for name in ("hard",) if name in flags}
    of = lambda params, x, flags: model.apply({"params": params}, x, method=method, **flags, **static)
    return jax.jit(of)(params, x, flags)


def one_step(model, params, x, **flags):
    sums, log_p_B = ask(model, params, x, "expected", **flags)
    return model.maximise(sums, params), float(log_p_B.sum())


def weights(model, params):
    """Start, transitions and the rows of the emission, as probabilities."""
    start_CK, transition_CKK = model.moves.log_p(*model.logits_of(params))
    return np.exp(start_CK[0]), np.exp(transition_CKK[0])


# ---- Against hmmlearn: likelihood, posteriors, paths, one step, and how many parameters are free.

COVARIANCES = {"spherical": "spherical", "diagonal": "diag", "tied": "tied", "full": "full"}


def covariances(kind, params):
    """As hmmlearn wants them."""
    if kind in ("spherical", "diagonal"):
        return np.exp(2 * np.float64(params["log_scale"]))[:, 0 if kind == "spherical" else slice(None)]
    from seqjax.ops import gaussian as ops

    U = np.float64(ops.unpack(params["lower"], F))
    S = np.linalg.inv(np.einsum("kij,ki,kil->kjl", U, np.exp(-2 * np.float64(params["log_scale"])), U))
    return S[0] if kind == "tied" else S


def oracle_of(model, params, kind):
    """The same model in hmmlearn, that will do one step without priors."""
    how = dict(n_components=K, n_iter=1, tol=-np.inf, init_params="", implementation="log")
    if kind is None:
        made = oracle.CategoricalHMM(n_features=V, **how)
        made.emissionprob_ = np.exp(jax.nn.log_softmax(params["emission"]["logits"]))
        made.emissionprob_ /= made.emissionprob_.sum(1, keepdims=True)
    else:
        made = oracle.GaussianHMM(
            covariance_type=COVARIANCES[kind], covars_prior=0, covars_weight=0, min_covar=0, **how
        )
        made.means_, made.n_features = np.float64(params["emission"]["mean"]), F
        made.covars_ = covariances(kind, params["emission"])
    made.startprob_, made.transmat_ = (p / p.sum(-1, keepdims=True) for p in map(np.float64, weights(model, params)))
    return made


# The step of the other kinds has a test of its own, with the emissions.
SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("spherical", "tied", "full")]


@pytest.mark.parametrize("kind", [None, "diagonal", *SLOW])
def test_likelihood_posteriors_paths_and_a_step_are_those_of_hmmlearn(kind):
    """Of several sequences of any length."""
    model, x = (language(), tokens()) if kind is None else (frames(kind), reals())
    params = start(model, x)
    made = oracle_of(model, params, kind)
    flat, lengths = (x[RAGGED][:, None] if kind is None else x[RAGGED]), RAGGED.sum(1)
    answers = lambda m, x, mask_BL: [getattr(m, of)(x, mask_BL=mask_BL) for of in ("expected", "smooth", "viterbi")]
    (sums, log_p_B), smooth, (path, score_B) = ask(model, params, x, answers, mask_BL=RAGGED)
    assert log_p_B.sum() == pytest.approx(made.score(flat, lengths), rel=1e-5)
    np.testing.assert_allclose(np.exp(smooth)[RAGGED], made.predict_proba(flat, lengths), atol=1e-5)
    wanted, best = made.decode(flat, lengths)[::-1]
    np.testing.assert_array_equal(path[RAGGED], wanted)
    assert score_B.sum() == pytest.approx(best, rel=1e-5)
    assert model.aic(1.0) == pytest.approx(2 * sum(made._get_n_fit_scalars_per_param().values()) - 2.0)
    assert model.bic(log_p_B.sum(), len(flat)) == pytest.approx(made.bic(flat, lengths), rel=1e-5)
    new = model.maximise(sums, params)
    made.fit(flat, lengths)
    for got, wanted in zip(weights(model, new), (made.startprob_, made.transmat_), strict=True):
        np.testing.assert_allclose(got, wanted, atol=2e-5)
    if kind is None:
        np.testing.assert_allclose(np.exp(new["emission"]["logits"]), made.emissionprob_, atol=1e-5)
    else:
        np.testing.assert_allclose(new["emission"]["mean"], made.means_, rtol=1e-4, atol=1e-5)
        own = made._covars_
        own = own[:, 0] if kind == "spherical" and own.ndim > 1 else own
        np.testing.assert_allclose(covariances(kind, new["emission"]), own, rtol=2e-3, atol=1e-5)


# ---- Expected counts.


def test_expected_counts_are_gradients():
    """Fisher's identity: by the logits, the gradient of log p(x) is count - p * (count of the row)."""
    model, x = language(), tokens()
    params = start(model, x)
    total = lambda params: model.apply({"params": params}, x, method="log_likelihood", mask_BL=RAGGED).sum()
    gradient = jax.jit(jax.grad(total))(params)
    sums, _ = ask(model, params, x, "expected", mask_BL=RAGGED)
    start_K, transition_KK = weights(model, params)
    emission_KV = np.asarray(jax.nn.softmax(params["emission"]["logits"]))
    for got, count, p in (
        (gradient["start"][0], sums["start"][0], start_K),
        (gradient["transition"].reshape(K, K), sums["transition"][0], transition_KK),
        (gradient["emission"]["logits"], sums["emission"]["count"], emission_KV),
    ):
        np.testing.assert_allclose(got, count - p * count.sum(-1, keepdims=True), atol=1e-5)
    assert sums["start"].sum() == pytest.approx(B, rel=1e-5)
    assert sums["transition"].sum() == pytest.approx(RAGGED.sum() - B, rel=1e-5)


def test_sums_add_up_over_rows_however_documents_are_laid_out():
    """Padding is nothing, a reset begins a document, an empty row and an impossible one count nothing."""
    model, x = language(topology="linear", initial="random"), tokens()
    params = start(model, x)
    mask, reset = np.ones((B, L), bool), np.zeros((B, L), bool)
    mask[0, 4], mask[1], reset[2, 3] = False, False, True
    sums, log_p_B = ask(model, params, x, "expected", mask_BL=mask, reset_BL=reset)
    documents = [x[0][mask[0]], x[2, :3], x[2, 3:], x[3]]
    own = np.zeros((B, L), np.int32)
    for row, document in zip(own, documents, strict=True):
        row[: len(document)] = document
    there = np.arange(L)[None] < np.array([len(d) for d in documents])[:, None]
    wanted, wanted_log_p_B = ask(model, params, own, "expected", mask_BL=there)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), sums, wanted)
    assert log_p_B[1] == 0 and log_p_B.sum() == pytest.approx(float(wanted_log_p_B.sum()), rel=1e-5)
    allowed = np.ones((B, L, K), bool)
    allowed[1:3, 1] = [False, False, True]  # no linear path from state 0 is in state 2 at the second token
    barred, log_p_B = ask(model, params, x, "expected", allowed_BLK=allowed)
    two = np.arange(B)[:, None].repeat(L, 1) < 2
    rest, _ = ask(model, params, x[[0, 3, 3, 3]], "expected", mask_BL=two)
    assert np.isneginf(log_p_B).tolist() == [False, True, True, False]
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), barred, rest)


def brute(model, params, x_L, allowed_LK):
    """The sum and the maximum of p(x, z) over all paths that are allowed, and the posterior of each state."""
    start_K, transition_KK = weights(model, params)
    p_KV = np.asarray(jax.nn.softmax(params["emission"]["logits"]))
    total, best, posterior = 0.0, 0.0, np.zeros((len(x_L), K))
    for z in itertools.product(range(K), repeat=len(x_L)):
        p = start_K[z[0]] * np.prod([transition_KK[a, b] for a, b in itertools.pairwise(z)])
        p = p * np.prod([p_KV[k, x] for k, x in zip(z, x_L, strict=True)])
        p = p * np.prod([allowed_LK[t, k] for t, k in enumerate(z)])
        total, best = total + p, max(best, p)
        for t, k in enumerate(z):
            posterior[t, k] += p
    return total, best, posterior / total


def test_a_tagger_knows_some_of_its_states():
    """One mask: of each token one tag, several, or any. Against all paths."""
    model, x = tagger(), tokens()
    params = start(model, x)
    allowed = np.random.default_rng(3).random((B, L, K)) < 0.6
    allowed[..., 1] |= ~allowed.any(-1)
    sums, log_p_B = ask(model, params, x, "expected", allowed_BLK=allowed)
    hard, best_B = ask(model, params, x, "expected", allowed_BLK=allowed, hard=True)
    free = ask(model, params, x)[0]
    everywhere = np.ones((L, K), bool)
    found = [brute(model, params, x[b], allowed[b]) for b in range(B)]
    np.testing.assert_allclose(log_p_B, np.log([total for total, _, _ in found]), rtol=1e-5)
    np.testing.assert_allclose(best_B, np.log([best for _, best, _ in found]), rtol=1e-5)
    count_KV = sum(posterior.T @ np.eye(V)[x[b]] for b, (_, _, posterior) in enumerate(found))
    np.testing.assert_allclose(sums["emission"]["count"], count_KV, atol=1e-5)
    assert set(np.ravel(hard["emission"]["count"] % 1)) == {0} and hard["emission"]["count"].sum() == B * L
    wanted = np.stack([brute(model, params, x[b], everywhere)[2] for b in range(B)])
    np.testing.assert_allclose(np.exp(free), wanted, atol=1e-5)


def test_known_tags_are_counted():
    """Supervised, one step solves: against a loop. A tag that never occurs keeps its parameters."""
    model, x, tags = tagger(transition_concentration=1.5), tokens(), np.random.default_rng(4).integers(0, 2, (B, L))
    assert model.complete and not language().complete and not model.causal
    params = start(model, x)
    new, _ = one_step(model, params, x, mask_BL=RAGGED, allowed_BLK=tags[..., None] == np.arange(K))
    first_K, next_KK, count_KV = np.zeros(K), np.zeros((K, K)), np.zeros((K, V))
    for b in range(B):
        n = RAGGED[b].sum()
        first_K[tags[b, 0]] += 1
        for t in range(n):
            count_KV[tags[b, t], x[b, t]] += 1
            if t:
                next_KK[tags[b, t - 1], tags[b, t]] += 1
    start_K, transition_KK = weights(model, new)
    np.testing.assert_allclose(start_K, first_K / first_K.sum(), atol=1e-6)
    normed = (next_KK[:2] + 0.5) / (next_KK[:2] + 0.5).sum(1, keepdims=True)
    np.testing.assert_allclose(transition_KK[:2], normed, rtol=1e-5)
    np.testing.assert_allclose(transition_KK[2], weights(model, params)[1][2], rtol=1e-5)
    emitted = np.exp(new["emission"]["logits"][:2])
    np.testing.assert_allclose(emitted, count_KV[:2] / count_KV[:2].sum(1, keepdims=True), atol=1e-6)
    np.testing.assert_array_equal(new["emission"]["logits"][2], params["emission"]["logits"][2])


def test_a_tagger_can_be_trained_by_gradients():
    """Its prediction is the posterior of `smooth`, and has the slope that it seems to have."""
    model, x = tagger(), tokens()
    params = start(model, x)
    reset = np.zeros((B, L), bool)
    reset[0, 3] = reset[1, 2] = True
    y = ask(model, params, x, mask_BL=RAGGED, reset_BL=reset)[0]
    np.testing.assert_allclose(y, ask(model, params, x, "smooth", mask_BL=RAGGED, reset_BL=reset), atol=1e-5)
    c = np.random.default_rng(5).normal(size=y.shape)
    loss = jax.jit(lambda params: jnp.vdot(model.apply({"params": params}, x, mask_BL=RAGGED)[0], c))
    gradient = jax.grad(loss)(params)
    v = jax.tree.map(lambda p: np.float32(np.random.default_rng(6).normal(size=p.shape)), params)
    away = lambda h: float(loss(jax.tree.map(lambda p, d: p + h * d, params, v)))
    along = sum(np.vdot(g, d) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(v), strict=True))
    assert along == pytest.approx((away(1e-2) - away(-1e-2)) / 2e-2, rel=1e-2)


# ---- Networks.


@pytest.mark.parametrize("topology", ["ergodic", "left_right"])
def test_transitions_of_a_network_are_those_of_its_table(topology):
    """Of two classes, as a free table of the same logits says it; what is forbidden stays forbidden."""
    inputs = spec.tokens(V, L, classes=2)
    make = functools.partial(hmm.Model, inputs=inputs, head=classes(2), states=K, topology=topology)
    model, free, x = make(transition_width=4), make(), tokens()
    params = start(model, x)
    table_CKK = network.Network(rows=2 * K, columns=K, width=4, layers=1).apply({"params": params["transition"]})
    moves = model.moves.allowed[1:] if topology == "ergodic" else model.moves.allowed[1:] & (np.arange(K) < 2)[:, None]
    same = params | {"transition": np.asarray(table_CKK).reshape(2, K, K)[:, moves]}
    y, wanted = ask(model, params, x, mask_BL=RAGGED)[0], ask(free, same, x, mask_BL=RAGGED)[0]
    np.testing.assert_allclose(y, wanted, rtol=1e-6)


def test_a_neural_hidden_markov_model_counts_and_begins_as_it_must():
    """No more parameters are free than a table has."""
    model, x = language(states=40, transition_width=2, emission=functools.partial(neural.Emission, width=2)), tokens()
    params = start(model, x)
    size = lambda tree: sum(p.size for p in jax.tree.leaves(tree))
    assert model.free_parameters == size(params) - 1 < 39 + 40 * 39 + 40 * (V - 1)
    assert language(transition_width=9).free_parameters == language().free_parameters
    assert not model.solvable and not language(transition_width=9).solvable and language().solvable
    begun = tagger(emission=neural.Emission, transition_width=2)
    params = start(begun, x)
    allowed = np.eye(K, dtype=bool)[x % K]
    found = begun.begin(params, x, jax.random.key(0), mask_BL=RAGGED, allowed_BLK=allowed)
    jax.tree.map(np.testing.assert_array_equal, found, params)


# ---- Expectation maximisation.

MAP = dict(start_concentration=2.0, transition_concentration=1.5)
RISES = {
    "tokens": (lambda: language(emission=functools.partial(categorical.Emission, concentration=1.3), **MAP), tokens),
    "frames": (lambda: frames(emission=functools.partial(gaussian.Emission, prior_count=1.0), **MAP), reals),
    "left_right": (lambda: frames(topology="left_right", initial="random"), reals),
    "mixtures": (lambda: frames(emission=functools.partial(mixture.Emission, components=2)), reals),
}


HARD = {"tokens": [False, True], "frames": [False], "left_right": [True], "mixtures": [False, True]}


@pytest.mark.parametrize("name", RISES)
def test_the_objective_never_falls(name):
    """log p(x) + log prior, and of Viterbi training that of the best path."""
    make, draw = RISES[name]
    model, x = make(), draw()
    for hard in HARD[name]:
        params, before = start(model, x), -np.inf
        step = jax.jit(lambda params, hard=hard: model.apply(
            {"params": params}, x, method="expected", mask_BL=RAGGED, hard=hard))  # fmt: skip
        for _ in range(8):
            sums, log_p_B = step(params)
            objective = float(log_p_B.sum() + model.log_prior(sums, params))
            assert objective >= before - 1e-4 * abs(objective), (hard, before, objective)
            params, before = model.maximise(sums, params), objective
        assert all(np.isfinite(p).all() for p in jax.tree.leaves(params))


def test_a_single_state_is_a_mixture():
    """The density of GMM, and its step."""
    emission = functools.partial(mixture.Emission, components=2)
    one, other = frames(states=1, emission=emission), gmm.Model(inputs=REALS, head=density, emission=emission)
    x = reals()
    params = start(other, x)
    assert jax.tree.structure(params) == jax.tree.structure(start(one, x))
    ours, theirs = (ask(model, params, x, mask_BL=RAGGED)[0] for model in (one, other))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, *(one_step(model, params, x, mask_BL=RAGGED)[0] for model in (one, other)))


def test_what_is_missing_takes_time():
    """Missing is not masked: nothing is seen, and the state moves on."""
    inputs = Spec({"features": Field("real", shape=(F,), missing=True)}, {"L": L})
    model, x = hmm.Model(inputs=inputs, head=density, states=K), reals()
    params, seen = start(model, x), np.ones((B, L, F), bool)
    seen[:, 3] = False
    x = np.where(seen, x, 0)
    y = ask(model, params, x, observed_BLF=seen)[0]
    np.testing.assert_allclose(y[:, 3], 0, atol=1e-6)
    masked = ask(model, params, x, observed_BLF=seen, mask_BL=seen[..., 0])[0]
    assert np.abs(y[:, 4] - masked[:, 4]).max() > 1e-3
    one = ask(model, params, x[:, :3], "filter", observed_BLF=seen[:, :3])[:, -1]
    two = model.apply({"params": params}, one, 2, method="predict_states")[:, 1]
    score = model.apply({"params": params}, x, method="scores")[1][:, 4]
    np.testing.assert_allclose(y[:, 4], jax.nn.logsumexp(two + score, axis=1), rtol=1e-4)


# ---- A classifier.


def test_a_classifier_is_one_model_per_class():
    """Logits, counts and steps are those of models by themselves; without a label, a row counts for all classes."""
    C, x = 2, reals()
    made = hmm.Model(inputs=spec.features(F, L, classes=C), head=classes(C), states=K)
    label = np.array([0, 1, 1, 0])
    params = start(made, x) | {"prior": np.array([0.3, -0.4], np.float32)}
    alone = frames(emission=gaussian.Emission)
    cut = lambda c: {
        "emission": jax.tree.map(lambda p: p[c * K : (c + 1) * K], params["emission"]),
        **{name: params[name][c : c + 1] for name in ("start", "transition")},
    }
    y = ask(made, params, x, mask_BL=RAGGED)[0]
    each = [one_step(alone, cut(c), x[label == c], mask_BL=RAGGED[label == c]) for c in range(C)]
    log_prior = jax.nn.log_softmax(params["prior"])
    for c in range(C):
        log_p = ask(alone, cut(c), x, "log_likelihood", mask_BL=RAGGED)
        np.testing.assert_allclose(y[:, c], log_p + log_prior[c], rtol=1e-5)
    new, log_p = one_step(made, params, x, mask_BL=RAGGED, label_B=label)
    assert log_p == pytest.approx(sum(found for _, found in each) + float(log_prior[label].sum()), rel=1e-5)
    for c, (wanted, _) in enumerate(each):
        np.testing.assert_allclose(new["transition"][c], wanted["transition"][0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            new["emission"]["mean"][c * K : (c + 1) * K], wanted["emission"]["mean"], rtol=1e-4, atol=1e-5
        )
    np.testing.assert_allclose(np.exp(new["prior"]), [0.5, 0.5], rtol=1e-6)
    some = RAGGED & (np.arange(B) > 0)[:, None]  # an empty row is of no class
    sums, log_p_B = ask(made, params, x, "expected", mask_BL=some)
    np.testing.assert_allclose(log_p_B[1:], jax.nn.logsumexp(y[1:], axis=1), rtol=1e-5)
    np.testing.assert_allclose(sums["prior"], np.exp(y - log_p_B[:, None])[1:].sum(0), rtol=1e-5)
    with pytest.raises(ValueError, match="classifies whole sequences, so it has no state"):
        made.init_state(B)


# ---- The future, and samples.


def test_the_future_is_the_sum_over_what_may_come_before():
    model, x = language(), tokens()
    params = start(model, x)
    empty = model.init_state(B)
    y, state = ask(model, params, x, state=empty)
    ahead = model.apply({"params": params}, state, 2, method="predict_tokens")
    np.testing.assert_allclose(ahead[:, 0], y[:, -1], atol=1e-5)
    np.testing.assert_allclose(np.exp(y).sum(-1), 1, rtol=1e-5)
    step = jax.jit(lambda v: model.apply({"params": params}, jnp.full(B, v), state, method="step")[0])
    wanted = sum(np.exp(y[:, -1, v])[:, None] * np.exp(step(v)) for v in range(V))
    np.testing.assert_allclose(np.exp(ahead[:, 1]), wanted, rtol=1e-4)
    start_K, transition_KK = weights(model, params)
    none = np.exp(model.apply({"params": params}, empty, 2, method="predict_states"))
    np.testing.assert_allclose(none, np.stack([start_K, start_K @ transition_KK])[None].repeat(B, 0), rtol=1e-5)


def test_samples_are_what_the_model_says():
    """Moves and tokens of drawn sequences, and states of drawn paths, as often as they should be."""
    model, x = language(), tokens()
    params = start(model, x)
    draw = jax.jit(lambda key: model.apply({"params": params}, key, 500, 10, method="sample"))
    z, drawn = map(np.asarray, draw(jax.random.key(0)))
    start_K, transition_KK = weights(model, params)
    near = functools.partial(np.testing.assert_allclose, atol=0.06)
    near(np.bincount(z[:, 0], minlength=K) / 500, start_K)
    for k in range(K):
        came, out = z[:, 1:][z[:, :-1] == k], drawn[z == k]
        near(np.bincount(came, minlength=K) / len(came), transition_KK[k])
        near(np.bincount(out, minlength=V) / len(out), jax.nn.softmax(params["emission"]["logits"][k]))
    paths = ask(model, params, np.repeat(x[:1], 1000, 0), "paths", key=jax.random.key(1))
    wanted = np.exp(ask(model, params, x[:1], "smooth"))[0]
    near(np.eye(K)[np.asarray(paths)].mean(0), wanted)


# ---- Topologies, and the start from data.


def test_what_is_forbidden_stays_forbidden_and_is_no_parameter():
    x = tokens()
    for topology, logits_, free in (
        ("linear", 4, 2),
        ("left_right", 5, 3),
        (((0, 1, 1), (1, 0, 0), (1, 1, 1)), 3 + 5, 5),
    ):
        model = language(topology=topology)
        params = start(model, x)
        counted = sum(p.size for name, p in params.items() if name != "emission")
        assert (counted, model.moves.free_parameters) == (logits_, free), topology
        new, _ = one_step(model, params, x)
        allowed = model.moves.allowed
        for p in (params, new):
            found = np.concatenate([weights(model, p)[0][None], weights(model, p)[1]])
            assert not found[~allowed].any() and (found[allowed] > 0).all()
    first = language(topology=((0, 0, 1), (1, 0, 0), (0, 1, 0), (1, 1, 1)))
    assert weights(first, start(first, x))[0].tolist() == [0, 0, 1]


def test_left_right_begins_with_equal_segments():
    """Rows of several lengths; the moves are those of the segments, with one more of each."""
    model, x = frames(topology="linear"), reals()
    mask = np.arange(L)[None] < np.array([7, 4, 6, 3])[:, None]
    params = model.begin(start(model, x), x, jax.random.key(0), mask_BL=mask)
    state = np.concatenate([np.arange(n) * K // n for n in (7, 4, 6, 3)])
    for k in range(K):
        np.testing.assert_allclose(params["emission"]["mean"][k], x[mask][state == k].mean(0), rtol=1e-4)
    stay, go = sum((np.arange(n) * K // n == 0).sum() - 1 for n in (7, 4, 6, 3)), 4
    transition = weights(model, params)[1]
    np.testing.assert_allclose(transition[0], [(stay + 1) / (stay + go + 2), (go + 1) / (stay + go + 2), 0], rtol=1e-4)
    new, before = one_step(model, params, x, mask_BL=mask)
    assert np.isfinite(before) and one_step(model, new, x, mask_BL=mask)[1] >= before
    with pytest.raises(ValueError, match=r"has 2 frames, too few .* each of 3 states"):
        model.begin(params, x, jax.random.key(0), mask_BL=np.arange(L)[None].repeat(B, 0) < 2)


def test_a_tagger_begins_with_known_tags_and_refuses_impossible_ones():
    model, x = tagger(), tokens()
    allowed = np.ones((B, L, K), bool)
    allowed[:2] = np.arange(K) == 1
    begun = model.begin(start(model, x), x, jax.random.key(0), mask_BL=RAGGED, allowed_BLK=allowed)
    seen = np.bincount(x[:2][RAGGED[:2]], minlength=V) + 1
    np.testing.assert_allclose(np.exp(begun["emission"]["logits"][1]), seen / seen.sum(), rtol=1e-5)
    for topology, words in (
        ("linear", "a sequence in the first batch begins with tag 1, which model.topology forbids: allow it"),
        (((1, 0, 1), (1, 0, 1), (1, 0, 1)), "has tag 1 after tag 1"),
    ):
        strict = tagger(topology=topology)
        with pytest.raises(ValueError, match=words):
            strict.begin(start(strict, x), x, jax.random.key(0), mask_BL=RAGGED, allowed_BLK=allowed)
    allowed[2, 3] = False
    with pytest.raises(ValueError, match="token 3 of row 2 in the first batch may have none of the 3 tags"):
        model.begin(start(model, x), x, jax.random.key(0), mask_BL=RAGGED, allowed_BLK=allowed)


def test_ergodic_begins_with_clusters_and_each_class_with_its_own():
    x, label = reals() + np.float32([0, 50])[np.array([0, 1, 0, 1]), None, None], np.array([0, 1, 0, 1])
    model = hmm.Model(inputs=spec.features(F, L, classes=2), head=classes(2), states=2)
    begun = model.begin(start(model, x), x, jax.random.key(0), mask_BL=RAGGED | True, label_B=label)
    mean = np.asarray(begun["emission"]["mean"])
    assert (mean[:2] < 25).all() and (mean[2:] > 25).all() and np.ptp(mean[:2, 0]) > 1 < np.ptp(mean[2:, 0])
    with pytest.raises(ValueError, match="clusters need as many different vectors"):
        frames(states=9).begin(start(frames(states=9), x), x[:1, :4], jax.random.key(0), mask_BL=RAGGED[:1, :4])
    words = language()
    params = start(words, tokens())
    assert words.begin(params, tokens(), jax.random.key(0), mask_BL=RAGGED) is params


# ---- What is refused.

ALL = np.ones((B, L), bool)
FIRST = lambda n: ALL & (np.arange(L)[None] < n)
ONLY = lambda n: FIRST(n) & (np.arange(B)[:, None] == 0)  # in one row
COLUMN = dict(inputs=spec.features(1, L), emission=functools.partial(categorical.Emission, size=3))


@pytest.mark.parametrize(
    ("model", "x", "mask", "words"),
    [
        (frames(topology="linear"), reals(), ONLY(1), "a sequence has 1 frame, too few to be cut into"),
        (language(topology="left_right"), tokens(), FIRST(2), "has 2 frames, .* each of 3 states: lower"),
        (frames(), reals() * np.float32([1, 0]), ALL, "feature 1 of the first batch is constant"),
        (frames(states=1), reals(), ONLY(1), "a variance needs two values, got 1 of features 0, 1"),
        (frames(), reals(), ONLY(2), "3 clusters need as many different vectors, got 2"),
        (hmm.Model(head=density, states=1, **COLUMN), reals()[..., :1], ALL, "wants whole numbers in 0 ... 2, got "),
    ],
    ids=["one frame", "short", "constant", "one vector", "more states than frames", "reals for ids"],
)
def test_data_that_determine_nothing_are_refused_in_one_sentence(model, x, mask, words):
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)["params"]
    params = jax.tree.map(lambda p: np.zeros(p.shape, p.dtype), shapes)
    with pytest.raises(ValueError, match=words) as refused:
        model.begin(params, x, jax.random.key(0), mask_BL=mask)
    assert "\n" not in str(refused.value) and str(refused.value).endswith(".")


def test_reals_are_no_tokens():
    with pytest.raises(ValueError, match=r"tokens: got float32\[4, 7, 2\], Categorical wants \[B, L\] integers"):
        language().init(jax.random.key(0), reals())


TAGS = Spec({"tokens": Field("ids", size=V), "tags": Field("ids", size=K)}, {"L": L})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(states=None), "model.states is missing"),
        (dict(states=None, inputs=TAGS), "predicts one of 3 tags, but the task wants 5 outputs"),
        (dict(states=4, inputs=TAGS, head=logits(K)), "an HMM of 4 states predicts tokens, .* 3 outputs per token"),
        (dict(inputs=spec.tokens(V, L, classes=2), head=classes(2, pool="last")), "an HMM has no head"),
        (dict(inputs=REALS, head=logits(2)), "predicts tokens, and the task asks for 2 outputs"),
        (dict(topology="circle"), "topology"),
        (dict(topology=((1, 1), (1, 1))), "has 2 rows of .2. entries: for 3 states give 3 rows of 3"),
        (dict(topology=((1, 1, 0), (0, 0, 0), (0, 1, 1))), "state 1 may go nowhere"),
        (dict(inputs=REALS, head=density, emission=categorical.Emission), "categorical emission reads ids, or one"),
        (dict(emission=gaussian.Emission), "Gaussian emits real values, but the data have tokens"),
    ],
)
def test_what_makes_no_sense_is_refused(options, words):
    given = dict(inputs=TOKENS, head=logits(V), states=K) | options
    with pytest.raises(ValueError, match=words):
        hmm.Model(**given)
