"""One step of expectation maximisation against hmmlearn and scikit-learn, from equal parameters.

States of hmmlearn that follow each other at random are the components of a mixture with equal weights.
"""

import functools
import warnings

import jax
import numpy as np
import pytest

from seqjax import spec
from seqjax.emissions.categorical import Categorical
from seqjax.emissions.gaussian import Gaussian
from seqjax.emissions.mixture import Mixture
from seqjax.emissions.poisson import Poisson
from seqjax.heads.density import Density
from seqjax.models.gmm import GMM
from seqjax.ops import gaussian

KINDS = ["spherical", "diagonal", "tied", "full"]
K, M, F, N, V = 3, 2, 3, 200, 5
DRAW = np.random.default_rng(0)
CENTRES = DRAW.normal(size=(K, F)) * 2
X = np.float32(CENTRES[DRAW.integers(0, K, N)] + DRAW.normal(size=(N, F)) @ DRAW.normal(size=(F, F)))
MEANS = np.float32(CENTRES + 0.5)
ROOTS = 0.3 * DRAW.normal(size=(K * M, F, F)) + 1.2 * np.eye(F)
COVARIANCES = np.float32(np.einsum("kfe,kge->kfg", ROOTS, ROOTS))
EXACT = dict(variance_floor=0.0)


def start(kind, covariance_XFF):
    """The parameters `log_scale` and `lower` of these covariances, and what a library calls them."""
    diagonal_XF = np.diagonal(covariance_XFF, axis1=1, axis2=2)
    if kind == "spherical":
        variance_X = diagonal_XF.mean(axis=1)
        return {"log_scale": 0.5 * np.log(variance_X)[:, None]}, variance_X
    if kind == "diagonal":
        return {"log_scale": 0.5 * np.log(diagonal_XF)}, diagonal_XF
    d_XF, U_XFF = gaussian.eliminate(covariance_XFF)
    return {"log_scale": 0.5 * np.log(d_XF), "lower": gaussian.pack(U_XFF)}, covariance_XFF


def covariances(kind, p, states):
    """(states, F, F) of parameters."""
    if "lower" not in p:
        return np.exp(2 * np.broadcast_to(p["log_scale"], (states, F)))[:, :, None] * np.eye(F)
    U_XFF = np.float64(gaussian.unpack(p["lower"], F))
    S_XFF = np.linalg.inv(np.einsum("xef,xe,xeg->xfg", U_XFF, np.exp(-2 * np.float64(p["log_scale"])), U_XFF))
    return np.repeat(S_XFF, states // len(S_XFF), axis=0)


def expand(kind, covars, states):
    """(states, F, F) of what a library calls covariances."""
    covars = np.asarray(covars)
    if kind == "tied":
        return np.broadcast_to(covars, (states, F, F))
    if kind == "spherical":
        return covars.reshape(states, -1)[:, :1, None] * np.eye(F)
    return covars if covars.ndim == 3 else covars[:, :, None] * np.eye(F)


@functools.cache
def model(emission, features=True):
    inputs = spec.features(F, N) if features else spec.tokens(V, N)
    return GMM(inputs=inputs, head=functools.partial(Density, outputs=1), emission=emission)


@functools.partial(jax.jit, static_argnums=0)
def step(model, params, x):
    sums, log_likelihood_B = model.apply({"params": params}, x, method="expected")
    return model.maximise(sums, params), log_likelihood_B


@pytest.mark.parametrize("kind", KINDS)
def test_a_mixture_takes_the_step_of_scikit_learn(kind):
    mixture = pytest.importorskip("sklearn.mixture")
    own, theirs = start(kind, COVARIANCES[:1] if kind == "tied" else COVARIANCES[:K])
    named = {"diagonal": "diag"}.get(kind, kind)
    precisions = np.linalg.inv(theirs[0] if kind == "tied" else theirs) if kind in ("tied", "full") else 1 / theirs
    weights = np.array([0.5, 0.3, 0.2])
    given = dict(weights_init=weights, means_init=MEANS, precisions_init=precisions)
    oracle = mixture.GaussianMixture(K, covariance_type=named, max_iter=1, reg_covar=0, **given)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one step has not converged
        oracle.fit(X.astype(np.float64))
    emission = functools.partial(Mixture, components=K, component=functools.partial(Gaussian, covariance=kind, **EXACT))
    params = {"emission": {"logits": np.log(weights)[None], "component": {"mean": MEANS, **own}}}
    params = jax.tree.map(np.float32, params)
    new, log_likelihood_B = step(model(emission), params, X[None])
    assert log_likelihood_B[0] / N == pytest.approx(oracle.lower_bound_, rel=1e-5)
    found = new["emission"]
    np.testing.assert_allclose(np.exp(found["logits"][0]), oracle.weights_, rtol=1e-4)
    np.testing.assert_allclose(found["component"]["mean"], oracle.means_, rtol=1e-4, atol=1e-4)
    got = covariances(kind, found["component"], K)
    np.testing.assert_allclose(got, expand(kind, oracle.covariances_, K), rtol=1e-3, atol=1e-3)
    before = log_likelihood_B[0]
    after = step(model(emission), new, X[None])[1][0]
    assert after > before
    assert model(emission).aic(after) == pytest.approx(oracle.aic(X), rel=1e-4)
    assert model(emission).bic(after, N) == pytest.approx(oracle.bic(X), rel=1e-4)


def hmmlearn_step(make, states, x, **given):
    """The model of hmmlearn after one step, whose states follow each other at random."""
    hmm = pytest.importorskip("hmmlearn.hmm")
    oracle = getattr(hmm, make)(states, n_iter=1, init_params="", **given.pop("options"))
    oracle.startprob_, oracle.transmat_ = np.full(states, 1 / states), np.full((states, states), 1 / states)
    for name, value in given.items():
        setattr(oracle, name, value)
    return oracle.fit(x)


@pytest.mark.parametrize("kind", KINDS)
def test_a_gaussian_takes_the_step_of_hmmlearn(kind):
    own, theirs = start(kind, COVARIANCES[:1] if kind == "tied" else COVARIANCES[:K])
    named = {"diagonal": "diag"}.get(kind, kind)
    options = dict(covariance_type=named, params="mc", covars_prior=0, covars_weight=0, min_covar=0)
    theirs = theirs[0] if kind == "tied" else theirs
    oracle = hmmlearn_step("GaussianHMM", K, X.astype(np.float64), options=options, means_=MEANS, covars_=theirs)
    component = functools.partial(Gaussian, covariance=kind, **EXACT)
    params = {"logits": np.zeros((1, K)), "component": {"mean": MEANS, **own}}
    params = jax.tree.map(np.float32, {"emission": params})
    emission = functools.partial(Mixture, components=K, component=component)
    found = step(model(emission), params, X[None])[0]["emission"]["component"]
    np.testing.assert_allclose(found["mean"], oracle.means_, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(covariances(kind, found, K), expand(kind, oracle.covars_, K), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("make", "emission", "name", "x"),
    [
        ("CategoricalHMM", Categorical, "emissionprob_", DRAW.integers(0, V, (N, 1))),
        ("PoissonHMM", Poisson, "lambdas_", DRAW.poisson(3.0, (N, F))),
    ],
)
def test_counts_take_the_step_of_hmmlearn(make, emission, name, x):
    categorical = emission is Categorical
    first = DRAW.dirichlet(np.ones(V), K) if categorical else DRAW.uniform(1, 6, (K, F))
    options = dict(params="e") if categorical else dict(params="l", lambdas_prior=0, lambdas_weight=0)
    oracle = hmmlearn_step(make, K, x, options=options, **{name: first})
    parameter = "logits" if categorical else "log_rate"
    params = {"logits": np.zeros((1, K)), "component": {parameter: np.log(first)}}
    params = jax.tree.map(np.float32, {"emission": params})
    x = np.int32(x[None, :, 0]) if categorical else np.float32(x[None])
    mixed = functools.partial(Mixture, components=K, component=emission)
    found = step(model(mixed, features=not categorical), params, x)[0]["emission"]["component"][parameter]
    np.testing.assert_allclose(np.exp(found), getattr(oracle, name), rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mixture_per_state_takes_the_step_of_hmmlearn(kind):
    """Except that hmmlearn takes covariances around the old means, and counts `tied` per component, too."""
    own, theirs = start(kind, COVARIANCES[:K] if kind == "tied" else COVARIANCES)
    named = {"diagonal": "diag"}.get(kind, kind)
    means = np.float32(np.repeat(MEANS, M, axis=0) + DRAW.normal(size=(K * M, F)))
    weights = DRAW.dirichlet(np.ones(M) * 3, K)
    theirs = theirs if kind == "tied" else theirs.reshape(K, M, *theirs.shape[1:])
    options = dict(n_mix=M, covariance_type=named, params="wmc", min_covar=0)
    # Its default for spherical covariances is no maximum likelihood unless there are as many components as features.
    options |= dict(covars_prior=-1 - F / 2) if kind == "spherical" else {}
    given = dict(weights_=weights, means_=means.reshape(K, M, F), covars_=theirs)
    oracle = hmmlearn_step("GMMHMM", K, X.astype(np.float64), options=options, **given)
    emission = Mixture(
        inputs=spec.features(F, N),
        states=K,
        components=M,
        component=functools.partial(Gaussian, covariance=kind, **EXACT),
    )
    params = jax.tree.map(np.float32, {"logits": np.log(weights), "component": {"mean": means, **own}})

    @jax.jit
    def both(params):
        apply = functools.partial(emission.apply, {"params": params}, X[None])
        weight_BLK = jax.nn.softmax(apply())
        statistics = apply(weight_BLK, method="statistics")
        return statistics, emission.solve(statistics, params)

    statistics, new = jax.device_get(both(params))
    np.testing.assert_allclose(np.exp(new["logits"]), oracle.weights_, rtol=1e-4)
    np.testing.assert_allclose(new["component"]["mean"].reshape(K, M, F), oracle.means_, rtol=1e-4, atol=1e-4)
    step_XF = new["component"]["mean"] - means
    moved_XFF = step_XF[:, :, None] * step_XF[:, None, :]
    if kind == "tied":
        mass_KM = statistics["count"]
        moved_KFF = np.einsum("km,kmfg->kfg", mass_KM, moved_XFF.reshape(K, M, F, F)) / mass_KM.sum(1)[:, None, None]
        moved_XFF = np.repeat(moved_KFF, M, axis=0)
        wanted = np.repeat(oracle.covars_, M, axis=0)
    else:
        wanted = expand(kind, oracle.covars_.reshape(K * M, *oracle.covars_.shape[2:]), K * M)
    around_old = covariances(kind, new["component"], K * M) + moved_XFF
    if kind in ("spherical", "diagonal"):
        around_old *= np.eye(F)
    if kind == "spherical":
        around_old = around_old.trace(axis1=1, axis2=2)[:, None, None] / F * np.eye(F)
    np.testing.assert_allclose(around_old, wanted, rtol=2e-3, atol=2e-3)
