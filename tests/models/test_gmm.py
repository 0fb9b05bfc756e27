"""Mixtures as models: densities of tokens and bags of frames, learnt by counting, from the first batch on."""

import dataclasses
import functools

import jax
import launch
import numpy as np
import pytest
from built import classes, logits
from gradients import close, drawn, evaluate
from scipy.special import logsumexp

from seqjax import spec
from seqjax.data import Source
from seqjax.emissions.categorical import Categorical
from seqjax.emissions.gaussian import Gaussian
from seqjax.emissions.mixture import Mixture
from seqjax.emissions.poisson import Poisson
from seqjax.emissions.product import Product
from seqjax.heads.density import Density
from seqjax.mixers.gru import GRU
from seqjax.models.gmm import GMM
from seqjax.models.stack import Stack
from seqjax.spec import Field, Spec
from seqjax.types import Count

pytestmark = pytest.mark.usefixtures("compile_once")

B, L, F, C, M = 6, 20, 2, 3, 2
VALUES = spec.features(F, L)
DRAW = np.random.default_rng(0)
X = np.float32(DRAW.normal(size=(B, L, F)) + 4 * DRAW.integers(0, 2, (B, L, 1)))
MASK = DRAW.random((B, L)) < 0.7
MASK[-1] = False  # an empty row
LABEL = np.arange(B) % C
MIXED = functools.partial(Mixture, components=M)
density = functools.partial(Density, outputs=1)


@functools.cache
def gmm(head=density, emission=MIXED, inputs=VALUES, n_init=1):
    return GMM(inputs=inputs, head=head, emission=emission, n_init=n_init)


MODELS = {"density": gmm(), "classifier": gmm(classes(C))}
PARAMS = {name: jax.device_get(drawn(model, X)["params"]) for name, model in MODELS.items()}


def log_p(p, x, c):
    """log p(x | c) of one vector, in float64."""
    own = slice(c * M, (c + 1) * M)
    mean, log_scale = (np.float64(p["component"][name][own]) for name in ("mean", "log_scale"))
    each = -0.5 * ((x - mean) / np.exp(log_scale)) ** 2 - log_scale - 0.5 * np.log(2 * np.pi)
    weight = p["logits"][c] - logsumexp(p["logits"][c])
    return logsumexp(weight + each.sum(axis=1))


@functools.cache
def values(name):
    model, noise = MODELS[name], np.where(MASK[..., None], X, np.nan)
    f = lambda params, x: model.apply({"params": params}, x, mask_BL=MASK)[0]
    return [jax.device_get(evaluate(f, PARAMS[name], x)) for x in (X, noise)]


def test_a_density_is_one_per_token_whatever_stands_under_the_mask():
    (y, _), _ = values("density")
    wanted = [[log_p(PARAMS["density"]["emission"], X[b, t], 0) for t in range(L)] for b in range(B)]
    np.testing.assert_allclose(y, np.where(MASK, wanted, 0), rtol=1e-5)


def test_a_classifier_adds_up_the_frames_of_a_bag():
    (y, _), _ = values("classifier")
    p = PARAMS["classifier"]
    prior = p["prior"] - logsumexp(p["prior"])
    frames = [[sum(log_p(p["emission"], x, c) for x in X[b, MASK[b]]) for c in range(C)] for b in range(B)]
    np.testing.assert_allclose(y, frames + prior, rtol=1e-5)
    np.testing.assert_allclose(y[-1], prior, rtol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_what_is_masked_changes_nothing_and_gets_no_gradient(name):
    first, second = values(name)
    close(first, second)
    assert not np.any(first[1][1][~MASK]) and np.any(first[1][1][MASK])


def test_tokens_one_by_one_are_the_whole():
    model, params = MODELS["density"], {"params": PARAMS["density"]}
    state, whole = model.init_state(B), values("density")[0][0]
    for t in range(3):
        y, state = model.apply(params, X[:, t], state, mask_B=MASK[:, t], method="step")
        np.testing.assert_allclose(y, whole[:, t], rtol=1e-5)
    assert model.causal and model.cuttable and not MODELS["classifier"].cuttable
    with pytest.raises(ValueError, match="has no state"):
        MODELS["classifier"].init_state(B)


# ---- Counting


@functools.cache
def counted(name):
    """(params, label_B or None) -> the sums, the log-likelihood of each row, and the next parameters."""
    model = MODELS[name]

    @functools.partial(jax.jit, static_argnames="hard")
    def run(params, x, mask_BL, label_B=None, hard=False):
        flags = dict(mask_BL=mask_BL, hard=hard) | ({} if label_B is None else dict(label_B=label_B))
        sums, log_p_B = model.apply({"params": params}, x, method="expected", **flags)
        return sums, log_p_B, model.maximise(sums, params)

    return lambda *args, **flags: jax.device_get(run(*args, **flags))


def test_the_likelihood_of_a_row_is_that_of_its_class_or_of_any():
    (joint_BC, _), _ = values("classifier")
    _, known_B, _ = counted("classifier")(PARAMS["classifier"], X, MASK, LABEL)
    _, any_B, _ = counted("classifier")(PARAMS["classifier"], X, MASK)
    real_B = MASK.any(axis=1)
    np.testing.assert_allclose(known_B, np.where(real_B, joint_BC[np.arange(B), LABEL], 0), rtol=1e-5)
    np.testing.assert_allclose(any_B, np.where(real_B, logsumexp(joint_BC, axis=1), 0), rtol=1e-5)


@pytest.mark.parametrize("label", [LABEL, None], ids=["known", "hidden"])
def test_em_raises_the_likelihood_of_a_classifier(label):
    params, found = PARAMS["classifier"], []
    for _ in range(8):
        _, log_p_B, params = counted("classifier")(params, X, MASK, label)
        found.append(log_p_B.sum())
    assert np.all(np.diff(found) > -1e-4) and found[-1] > found[0] + 1
    if label is not None:
        share = np.bincount(LABEL[:-1], minlength=C) / (B - 1)  # the empty row is of no class
        np.testing.assert_allclose(np.exp(params["prior"]), share, rtol=1e-5)


def test_hard_counts_are_whole():
    sums, _, _ = counted("classifier")(PARAMS["classifier"], X, MASK, hard=True)
    assert sums["emission"]["count"].sum() == MASK.sum()
    for a in (sums["emission"]["count"], sums["prior"]):
        np.testing.assert_array_equal(a, np.round(a))


def test_sums_of_parts_are_the_sums_of_the_whole():
    run, p = counted("classifier"), PARAMS["classifier"]
    parts = [run(p, X, MASK & (np.arange(B)[:, None] % 2 == i), LABEL)[0] for i in (0, 1)]
    close(jax.tree.map(np.add, *parts), run(p, X, MASK, LABEL)[0])


def test_naive_bayes_is_a_gmm_of_counts():
    """One categorical per class: the frequencies of the ids in each class."""
    tokens = DRAW.integers(0, 4, (B, L), dtype=np.int32)
    model = gmm(classes(C), Categorical, spec.tokens(4, L))
    params = drawn(model, tokens)["params"]
    sums, _ = model.apply({"params": params}, tokens, mask_BL=MASK, label_B=LABEL, method="expected")
    found = np.exp(model.maximise(sums, params)["emission"]["logits"])
    for c in range(C):
        own = MASK & (LABEL[:, None] == c)
        seen = np.bincount(tokens[own], minlength=4)
        np.testing.assert_allclose(found[c], seen / seen.sum(), rtol=1e-5)
    assert model.free_parameters == C * 3 + C - 1


# ---- The first batch


def test_a_run_begins_with_the_clusters_of_each_class():
    """Two components per class, far apart: they are found, and EM moves them no more."""
    centre = np.array([[0, 0], [9, 9], [0, 90], [9, 99], [500, 0], [509, 9]])
    part = DRAW.integers(0, 2, (B, L))
    x = np.float32(centre[2 * LABEL[:, None] + part] + 0.1 * DRAW.normal(size=(B, L, F)))
    mask = np.ones((B, L), bool)
    params = MODELS["classifier"].begin(
        PARAMS["classifier"], np.where(mask[..., None], x, 0), jax.random.key(0), mask_BL=mask, label_B=LABEL
    )
    mean = np.asarray(params["emission"]["component"]["mean"]).reshape(C, M, F)
    for c in range(C):
        for m, cluster in enumerate(sorted(mean[c], key=lambda v: v[1])):
            own = x[(LABEL[:, None] == c) & (part == m)]
            np.testing.assert_allclose(cluster, own.mean(axis=0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.exp(params["prior"]), 1 / C, rtol=1e-5)
    _, _, after = counted("classifier")(params, x, mask, LABEL)
    close(after["emission"]["component"]["mean"], params["emission"]["component"]["mean"], tolerance=1e-4)


def refusal(x, emission, label=None, head=density, mask=None):
    inputs = spec.features(x.shape[-1], x.shape[1])
    model = gmm(head, emission, inputs)
    params = jax.tree.map(np.zeros_like, jax.eval_shape(model.init, jax.random.key(0), x)["params"])
    known = {} if label is None else {"label_B": label}
    with pytest.raises(ValueError) as caught:
        model.begin(params, x, jax.random.key(0), mask_BL=mask, **known)
    return str(caught.value)


def test_data_that_determine_nothing_are_refused_in_one_sentence():
    constant = np.concatenate([X, np.ones_like(X)], axis=-1)
    assert "features 2, 3 of the first batch are constant, so their density is infinite" in refusal(constant, Gaussian)
    one_frame = np.arange(L)[None] < (np.arange(B)[:, None] == 0)
    assert "a variance needs two values, got 1 of features 0, 1: give a larger" in refusal(X, Gaussian, mask=one_frame)
    many = functools.partial(Mixture, components=200)
    assert "200 clusters need as many different vectors, got 120: choose fewer components" in refusal(X, many)
    assert "no example of class 2, so its mixture cannot begin" in refusal(X, MIXED, LABEL % 2, classes(C))
    assert "a Poisson emission wants whole numbers of at least 0, got 0.1" in refusal(X, Poisson)
    ids = functools.partial(Product, emissions=(functools.partial(Categorical, size=3), Gaussian))
    assert "size=3 wants whole numbers in 0 ... 2, got " in refusal(X, ids)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: gmm(inputs=spec.tokens(5)),
            "Gaussian emits real values, but the data have tokens .ids.: choose another",
        ),
        (
            lambda: gmm(emission=Categorical),
            "a categorical emission reads ids, or one real column with size, got features",
        ),
        (
            lambda: gmm(logits(5)),
            "a mixture gives a density per token or logits per sequence, not what Tokenwise reads",
        ),
        (
            lambda: gmm(emission=functools.partial(Product, emissions=(Gaussian,) * 3)),
            "a product of 3 emissions with columns=.1, 1, 1. reads 3 columns of 2 features: give columns",
        ),
        (
            lambda: gmm().init(jax.random.key(0), np.zeros((B, L), np.int32)),
            r"features: got int32\[6, 20\], Gaussian wants",
        ),
        (
            lambda: gmm().init(jax.random.key(0), np.zeros((B, L, 5), np.float32)),
            r"got float32\[6, 20, 5\], Gaussian wants \[B, L, 2\]",
        ),
        (
            lambda: Stack(inputs=spec.features(F), head=density, width=4, mixer=GRU).init(jax.random.key(0), X),
            "a density is one number per token .B, L., this model gives .6, 20, 4.: choose a model of densities",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


# ---- Runs


@dataclasses.dataclass(kw_only=True)
class Blobs(Source):
    """Frames around two centres per class; a fifth of the values is missing. `constant`: a feature says nothing."""

    examples: Count = 12
    constant: bool = False

    def __post_init__(self):
        super().__post_init__()
        fields = {"features": Field("real", shape=(3,), missing=True), "label": Field("ids", size=2, axis=None)}
        self.spec = Spec(fields, {"L": 16}, splits=("train", "validation"))

    def size(self, split):
        return self.examples

    def example(self, split, index):
        draw = np.random.default_rng([index, len(split)])
        label, length = index % 2, 8 + index % 9
        x = draw.normal(size=(length, 3)) + 6 * draw.integers(0, 2, (length, 1)) * [1, -1, 0] + [0, 5 * label, 0]
        if self.constant:
            x[:, 2] = 7
        x[draw.random(x.shape) < 0.2] = np.nan
        return {"features": np.float32(x), "label": np.int32(label)}


def tree(task, **data):
    out = launch.tiny("train.steps=4", "train.eval_every=2", "loader.batch_size=12")
    model = {"name": "gmm", "emission": {"name": "mixture", "components": 2, "component": {"covariance": "full"}}}
    out["data"] = {"name": "test_gmm:Blobs", **data}
    return out | {"task": {"name": task}, "model": model, "learner": {"name": "em"}, "optim": {}}


@pytest.mark.parametrize("task", ["density", "classification"])
def test_a_run_begins_with_its_first_batch_and_climbs(task, tmp_path):
    config = launch.write(tmp_path / "c.json", tree(task))
    outcome = launch.main("train", "--config", config, "--workdir", tmp_path / "run")
    assert outcome.code == 0, outcome
    rows = launch.rows(tmp_path / "run")
    loss = [row["loss"] for row in rows if row["split"] == "train"]
    if task == "density":
        assert np.all(np.diff(loss) < 1e-5)  # all data in each step
        assert loss[0] < 6.5  # three features with unit variance around two centres have 4.9, one Gaussian for all 7.4
    else:
        assert [row for row in rows if row["split"] == "validation"][-1]["accuracy"] == 1


def test_a_first_batch_that_determines_nothing_ends_the_command(tmp_path):
    config = launch.write(tmp_path / "c.json", tree("density", constant=True))
    outcome = launch.main("train", "--config", config, "--workdir", tmp_path / "run")
    assert outcome.code == 2 and "feature 2 of the first batch is constant" in outcome.err
