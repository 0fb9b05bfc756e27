"""Emissions against loops in numpy, and the laws that expectation maximisation needs, for every family in one program.

Per token and state: score = log p(x | k). Of a batch: statistics, and the parameters that maximise them.
"""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
from gradients import close, drawn

from seqjax import lookup
from seqjax.emissions.categorical import Categorical
from seqjax.emissions.gaussian import Gaussian
from seqjax.emissions.mixture import Mixture
from seqjax.emissions.neural import Neural
from seqjax.emissions.poisson import Poisson
from seqjax.emissions.product import Product
from seqjax.spec import Field, Spec

pytestmark = pytest.mark.usefixtures("compile_once")

B, L, K, M, F, V = 4, 60, 3, 2, 3, 5
N = B * L
DRAW = np.random.default_rng(0)
REAL = np.float32(DRAW.normal(size=(B, L, F)) @ DRAW.normal(size=(F, F)) + DRAW.integers(-1, 2, (B, L, 1)) + 3)
COUNTS = np.float32(DRAW.poisson(2.0, (B, L, F)))
IDS = DRAW.integers(0, V, (B, L), dtype=np.int32)
COLUMN = np.float32(IDS)[..., None]
MIXED = np.concatenate([REAL[..., :2], COLUMN, COUNTS[..., :1]], axis=-1)
WEIGHT = np.float32(DRAW.dirichlet(np.ones(K), size=(B, L))) * (DRAW.random((B, L, 1)) < 0.9)  # 0: a masked token
# In each state vectors of one level, whose variance is below a floor.
LEVEL = np.float32(np.eye(K)[np.digitize(REAL.sum(axis=2), np.quantile(REAL.sum(axis=2), [0.3, 0.7]))])
PARTS = (Gaussian, functools.partial(Categorical, size=V), Poisson)
full, tied = (functools.partial(Gaussian, covariance=kind) for kind in ("full", "tied"))

# Name -> the emission, its x, its number of free parameters, and whether values are missing.
CASES = {
    "categorical": (functools.partial(Categorical, concentration=1.5), IDS, K * (V - 1), False),
    "column": (functools.partial(Categorical, size=V), COLUMN, K * (V - 1), True),
    "neural": (functools.partial(Neural, width=4, layers=2), IDS, K * (V - 1), False),
    "neural-column": (functools.partial(Neural, size=V, width=1, layers=0), COLUMN, K * (V - 1), True),
    "poisson": (functools.partial(Poisson, prior_shape=2.0, prior_rate=1.0), COUNTS, K * F, True),
    "spherical": (functools.partial(Gaussian, covariance="spherical", prior_count=5.0), REAL, K * (F + 1), True),
    "diagonal": (functools.partial(Gaussian, prior_count=5.0), REAL, K * 2 * F, True),
    "diagonal-floor": (functools.partial(Gaussian, variance_floor=0.8), REAL, K * 2 * F, False),
    "tied": (functools.partial(tied, prior_count=5.0), REAL, K * F + 6, False),
    "full": (functools.partial(full, prior_count=5.0), REAL, K * (F + 6), False),
    "full-floor": (functools.partial(full, variance_floor=0.5), REAL, K * (F + 6), False),
    "full-missing": (functools.partial(full, prior_count=5.0), REAL, K * (F + 6), True),
    "mixture": (
        functools.partial(Mixture, components=M, component=functools.partial(tied, prior_count=2.0), concentration=2.0),
        *(REAL, K * (M - 1 + M * F + 6), False),
    ),
    "product": (
        functools.partial(Product, emissions=PARTS, columns=(2, 1, 1)),
        *(MIXED, K * (4 + V - 1 + 1), True),
    ),
}
SEEN = {x.shape: DRAW.random(x.shape) < 0.8 for x in (REAL, COLUMN, MIXED)}


def test_every_family_is_here():
    found = {name: lookup.find(name, "seqjax.emissions", "Emission") for name in lookup.names("seqjax.emissions")}
    used = {type(emission(name)).__module__ for name in CASES}
    assert {cls.__module__ for cls in found.values()} == used


@functools.cache
def emission(name):
    make, x, _, missing = CASES[name]
    field = Field("ids", size=V) if x.ndim == 2 else Field("real", shape=x.shape[2:], missing=missing)
    inputs = Spec({"tokens" if x.ndim == 2 else "features": field}, {"L": L})
    return make(inputs=inputs, states=K)


@functools.cache
def params(name):
    return jax.device_get(drawn(emission(name), CASES[name][1]))["params"]


SOLVED = [name for name in CASES if emission(name).solvable]


def given(name):
    """x, and where it is given."""
    x = CASES[name][1]
    return x, SEEN[x.shape] if CASES[name][3] else None


def weight(name):
    return LEVEL if "floor" in name else WEIGHT


@functools.cache
def program(name):
    """(params, x, weight, observed) -> all that the laws look at."""
    module = emission(name)

    @jax.jit
    def run(params, x, weight_BLK, observed):
        total = lambda params: jnp.sum(weight_BLK * module.apply({"params": params}, x, observed))
        statistics = module.apply({"params": params}, x, weight_BLK, observed, method="statistics")
        new = module.solve(statistics, params) if module.solvable else params
        log_p, slope = jax.value_and_grad(total)(params)
        return {
            "score": module.apply({"params": params}, x, observed),
            "statistics": statistics,
            "slope": slope,
            "objective": log_p + module.log_prior(statistics, params),
            "prior_slope": jax.grad(lambda params: module.log_prior(statistics, params))(params),
            "new": new,
            "recentred": module.recentre(statistics, params, new),
        }

    return lambda params, x, weight, observed: jax.device_get(run(params, x, weight, observed))


@functools.cache
def found(name):
    x, observed = given(name)
    return program(name)(params(name), x, weight(name), observed)


# ---- Values: one token in one state, in float64


def covariance(p, k):
    """Of a state: a diagonal, or the inverse of U^T diag(d)^-1 U."""
    if "lower" not in p:
        return np.diag(np.exp(2.0 * np.broadcast_to(p["log_scale"], p["mean"].shape)[k]))
    g = k * len(p["log_scale"]) // len(p["mean"])
    U = np.eye(F)
    U[np.tril_indices(F, -1)] = p["lower"][g]
    return np.linalg.inv(U.T @ np.diag(np.exp(-2.0 * p["log_scale"][g])) @ U)


def softmax(a):
    e = np.exp(np.float64(a) - a.max())
    return e / e.sum()


def network(p, layers):
    """The logits of a network, in float64."""
    h = np.float64(p["embedding"])
    through = lambda name, h: h @ np.float64(p[name]["kernel"]) + p[name]["bias"]
    for i in range(layers):
        h = h + through(f"down_{i}", np.maximum(through(f"up_{i}", h), 0))
        centred = h - h.mean(1, keepdims=True)
        h = centred / np.sqrt(np.mean(centred**2, axis=1, keepdims=True) + 1e-6)
        h = h * p[f"norm_{i}"]["scale"] + p[f"norm_{i}"]["bias"]
    return through("out", h)


def log_p(module, p, x, o, k):
    """log p(x | k) of one token, of what is given of it."""
    if isinstance(module, Neural):
        return math.log(softmax(network(p["network"], module.layers)[k])[int(x.item())]) if np.all(o) else 0.0
    if isinstance(module, Categorical):
        return math.log(softmax(p["logits"][k])[int(x.item())]) if np.all(o) else 0.0
    if isinstance(module, Poisson):
        return scipy.stats.poisson.logpmf(x, np.exp(np.float64(p["log_rate"][k])))[o].sum()
    if isinstance(module, Mixture):
        each = [log_p(module.make(parent=None), p["component"], x, o, k * M + m) for m in range(M)]
        return math.log(softmax(p["logits"][k]) @ np.exp(each))
    if isinstance(module, Product):
        cuts = zip(module.parts(), np.split(x, [2, 3]), np.split(o, [2, 3]), strict=True)
        return sum(log_p(part, p[part.name], one, seen, k) for part, one, seen in cuts)
    mean, S = p["mean"][k], covariance(p, k)
    return scipy.stats.multivariate_normal.logpdf(x[o], mean[o], S[np.ix_(o, o)]) if o.any() else 0.0


@pytest.mark.parametrize("name", CASES)
def test_the_score_is_the_density_of_what_is_given(name):
    x, observed = given(name)
    seen = np.ones(x.shape, bool) if observed is None else observed
    few = [(b, t) for b in range(2) for t in range(10)]
    wanted = [[log_p(emission(name), params(name), x[at], seen[at], k) for k in range(K)] for at in few]
    got = np.stack([found(name)["score"][at] for at in few])
    np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-5)


# ---- Fisher's identity: the gradient of log p is the gradient of the expected one, which reads the statistics alone


def expected(module, s, old, p):
    """The expected log p of parameters p, up to a constant, from the statistics of the parameters `old`."""
    if isinstance(module, Categorical):
        return jnp.sum(s["count"] * jax.nn.log_softmax(p["logits"]))
    if isinstance(module, Neural):
        logits_KV = module.apply({"params": p}, method=lambda module: module.logits)
        return jnp.sum(s["count"] * jax.nn.log_softmax(logits_KV))
    if isinstance(module, Poisson):
        return jnp.sum(s["sum"] * p["log_rate"] - s["count"] * jnp.exp(p["log_rate"]))
    if isinstance(module, Mixture):
        inner = expected(module.make(parent=None), s["component"], old["component"], p["component"])
        return inner + jnp.sum(s["count"] * jax.nn.log_softmax(p["logits"]))
    if isinstance(module, Product):
        return sum(expected(part, s[part.name], old[part.name], p[part.name]) for part in module.parts())
    by = old["mean"] - p["mean"]
    if module.covariance in ("spherical", "diagonal"):
        square = s["square"] + 2 * by * s["sum"] + s["count"] * by**2
        log_scale = jnp.broadcast_to(p["log_scale"], by.shape)
        return jnp.sum(-0.5 * square * jnp.exp(-2 * log_scale) - s["count"] * log_scale)
    total, each = 0.0, len(by) // len(p["log_scale"])
    for g in range(len(p["log_scale"])):
        k = slice(g * each, (g + 1) * each)
        cross = s["shift"][k].T @ by[k]
        S = s["scatter"][g] + cross + cross.T + (s["mass"][k, None] * by[k]).T @ by[k]
        U = jnp.eye(F).at[jnp.tril_indices(F, -1)].set(p["lower"][g])
        d = jnp.exp(2 * p["log_scale"][g])
        total += jnp.sum(-0.5 * jnp.diag(U @ S @ U.T) / d - s["mass"][k].sum() * p["log_scale"][g])
    return total


@functools.cache
def expected_slope(name):
    of = jax.grad(functools.partial(expected, emission(name)), argnums=2)
    with jax.numpy_rank_promotion("allow"):
        return (
            jax.jit(lambda s, old, p: of(s, old, p)).lower(*[found(name)["statistics"], *[params(name)] * 2]).compile()
        )


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_of_log_p_is_that_of_the_statistics(name):
    close(found(name)["slope"], expected_slope(name)(found(name)["statistics"], params(name), params(name)))


@pytest.mark.parametrize("name", [n for n in SOLVED if "floor" not in n])
def test_solve_finds_the_place_where_the_expected_log_p_and_the_prior_are_level(name):
    one = found(name)
    level = expected_slope(name)(one["statistics"], params(name), one["new"])
    x, observed = given(name)
    # The variance of the data, which the prior knows, is in the statistics of any parameters.
    prior = program(name)(one["new"], x, weight(name), observed)["prior_slope"]
    total = jax.tree.map(lambda a, b: np.asarray(a) + b, level, prior)
    close(total, jax.tree.map(np.zeros_like, total), tolerance=N * 3e-6)


# ---- Expectation maximisation


@pytest.mark.parametrize("name", SOLVED)
def test_em_never_lowers_its_objective(name):
    """Log-likelihood and prior, from parameters that obey the floor; in the end it stands still."""
    x, observed = given(name)
    p, objectives = found(name)["new"], []
    for _ in range(40):
        one = program(name)(p, x, weight(name), observed)
        p = one["new"]
        objectives.append(one["objective"])
    slack = 2e-6 * abs(objectives[-1])
    assert np.all(np.diff(objectives) > -slack) and objectives[-1] > found(name)["objective"]
    assert emission(name).complete == (name not in ("mixture", "full-missing"))
    if emission(name).complete:  # closed forms need one step
        assert np.ptp(objectives) < slack


@pytest.mark.parametrize(("name", "floor"), [("diagonal-floor", 0.8), ("full-floor", 0.5)])
def test_no_variance_gets_below_its_share_of_that_of_the_data(name, floor):
    """Some are at the floor, which is where the maximum under it must be, and some above."""
    ratio = np.exp(2 * found(name)["new"]["log_scale"]) / (floor * np.var(REAL, axis=(0, 1)))
    assert np.isclose(ratio.min(), 1, rtol=1e-4) and ratio.max() > 1.1


@pytest.mark.parametrize("name", CASES)
def test_statistics_add_up_over_rows(name):
    x, observed = given(name)
    part = np.float32(np.arange(B) < 1)[:, None, None] * weight(name)
    two = [program(name)(params(name), x, w, observed)["statistics"] for w in (part, weight(name) - part)]
    close(jax.tree.map(np.add, *two), found(name)["statistics"])


@pytest.mark.parametrize("name", SOLVED)
def test_a_state_without_mass_keeps_its_parameters(name):
    x, observed = given(name)
    some = WEIGHT * np.float32([1, 0, 1])
    new, old = program(name)(params(name), x, some, observed)["new"], params(name)
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(new))
    third = lambda a: a[len(a) // 3 : 2 * len(a) // 3] if len(a) % 3 == 0 else a[:0]  # what is shared moves
    jax.tree.map(np.testing.assert_array_equal, *(jax.tree.map(third, p) for p in (new, old)))
    none = program(name)(old, x, 0 * WEIGHT, observed)["new"]
    jax.tree.map(np.testing.assert_array_equal, none, old)


@pytest.mark.parametrize("name", [n for n in SOLVED if emission(n).complete])
def test_recentred_statistics_are_those_of_the_new_parameters(name):
    """If parameters change neither weights nor what is missing: then nothing is hidden, and one pass counts all."""
    x, observed = given(name)
    one = found(name)
    close(one["recentred"], program(name)(one["new"], x, weight(name), observed)["statistics"], tolerance=N * 1e-6)


def test_far_from_zero_the_statistics_keep_their_digits():
    """Means of 1e4, and a spread of 1: E[x^2] - E[x]^2 would lose all of it in float32."""
    far = np.float32(np.float64(REAL) + 1e4)
    for name in ("diagonal", "full"):
        p = {**params(name), "mean": params(name)["mean"] + np.float32(1e4)}
        for _ in range(2):
            p = program(name)(p, far, WEIGHT, given(name)[1] if name == "full" else np.ones(far.shape, bool))["new"]
        w = WEIGHT.reshape(N, K).astype(np.float64)
        data = far.reshape(N, F).astype(np.float64)
        for k in range(K):
            mean = w[:, k] @ data / w[:, k].sum()
            S = (w[:, k] * (data - mean).T) @ (data - mean)
            variance = w.sum(1) @ (data - w.sum(1) @ data / w.sum()) ** 2 / w.sum()
            S = (S + 5 * np.diag(variance)) / (w[:, k].sum() + 5)
            wanted = S if name == "full" else np.diag(np.diag(S))
            np.testing.assert_allclose(covariance(p, k), wanted, rtol=3e-4, atol=3e-4)
            np.testing.assert_allclose(p["mean"][k], mean, rtol=1e-6)


def test_gradients_find_what_a_closed_form_would():
    """A network as wide as a table is can be any table: -log p falls to what the counts of the data allow."""
    module, p = emission("neural"), params("neural")
    descend = optax.adam(3e-2)

    @jax.jit
    def step(p, state):
        loss = lambda p: -jnp.sum(WEIGHT * module.apply({"params": p}, IDS))
        value, slope = jax.value_and_grad(loss)(p)
        updates, state = descend.update(slope, state, p)
        return optax.apply_updates(p, updates), state, value

    state = descend.init(p)
    for _ in range(300):
        p, state, value = step(p, state)
    count_KV = np.stack([WEIGHT[v == IDS].sum(0) for v in range(V)], axis=1, dtype=np.float64)
    least = -np.sum(count_KV * np.log(count_KV / count_KV.sum(1, keepdims=True)))
    assert least - 0.01 < value < least + 0.1


def test_what_holds_a_network_has_no_closed_form():
    """As a component of a mixture or a column of a product, too; all the others have one."""
    pair = Spec({"features": Field("real", shape=(2,))}, {"L": L})
    column = functools.partial(Neural, size=V)
    parts = Product(inputs=pair, states=K, emissions=(column, Poisson))
    each = Mixture(inputs=Spec({"tokens": Field("ids", size=V)}, {"L": L}), states=K, components=M, component=Neural)
    assert not parts.solvable and not each.solvable
    assert {name for name in CASES if not emission(name).solvable} == {"neural", "neural-column"}


# ---- Sampling, counting


@pytest.mark.parametrize("name", CASES)
def test_samples_have_the_density(name):
    """The gradient of log p has the mean 0 over samples of p, and no other distribution."""
    state = np.arange(N).reshape(B, L) % K
    draw = jax.jit(lambda p, key: emission(name).apply({"params": p}, key, state, method="sample"))
    own = np.float32(np.eye(K)[state])
    everything = None if given(name)[1] is None else np.ones(CASES[name][1].shape, bool)
    slopes = []
    for seed in range(12):
        x = draw(params(name), jax.random.key(seed))
        assert x.dtype == CASES[name][1].dtype and x.shape == CASES[name][1].shape
        slopes.append(program(name)(params(name), x, own, everything)["slope"])

    def level(*slopes):
        mean, error = np.mean(slopes, axis=0), np.std(slopes, axis=0) / math.sqrt(len(slopes) - 1)
        assert np.all(np.abs(mean) < 6 * error + 1e-3)

    jax.tree.map(level, *slopes)


@pytest.mark.parametrize("name", CASES)
def test_free_parameters_are_counted(name):
    assert emission(name).free_parameters == CASES[name][2]


def test_a_description_names_what_sets_states_apart():
    """Ids by their probability; features by their distance from the mean state; weights of components."""
    numbers = lambda text: [float(x) for x in re.findall(r"-?[0-9.]+(?:e-?[0-9]+)?", text)]
    for name in CASES:
        found = emission(name).describe(params(name), "abcde".__getitem__, 4)
        assert len(found) == K, name
    p = jax.nn.softmax(params("categorical")["logits"])
    for text, p_V in zip(emission("categorical").describe(params("categorical"), "abcde".__getitem__), p, strict=True):
        assert text == ", ".join(f"{'abcde'[v]} {p_V[v]:.0%}" for v in np.argsort(-p_V) if p_V[v] >= 0.005)
    for kind in ("diagonal", "spherical", "tied", "full"):
        e, p = emission(kind), params(kind)
        z = e.apply({"params": p}, jax.random.key(0), np.repeat(np.arange(K), 20_000), method="sample")
        for k, text in enumerate(e.describe(p, str)):
            own = z.reshape(K, -1, F)[k]
            wanted = np.stack([np.arange(F), own.mean(0), own.std(0)], axis=1)
            np.testing.assert_allclose(np.reshape(numbers(text), (F, 3)), wanted, rtol=0.06, atol=0.05)
    many = Gaussian(inputs=Spec({"features": Field("real", shape=(9,))}, {"L": L}), states=2)
    far = np.zeros((2, 9), np.float32)
    far[1, [8, 1, 3, 4, 5, 7]] = 9
    told = many.describe({"mean": far, "log_scale": np.zeros((2, 9), np.float32)}, str, 10)[1]
    assert told == ", ".join(f"feature {f}: 9 ± 1" for f in (11, 13, 14, 15, 17, 18))
    mixed, column = (
        emission("mixture").describe(params("mixture"), str)[0],
        emission("product").describe(params("product"), str)[0],
    )
    assert re.fullmatch(r"[0-9]+% \(feature 0: .*\), [0-9]+% \(feature 0: .*\)", mixed)
    assert re.fullmatch(r"feature 0: .*, feature 1: .*; feature 2: [0-4] .*%; feature 3: rate .*", column)
