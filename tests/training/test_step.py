"""The training step: what it computes from a batch, whichever way it is cut."""

import dataclasses
import functools
import math
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from built import classes, logits
from flax import linen as nn
from held.tasks import Both

from seqjax import spec
from seqjax.lookup import find
from seqjax.metrics import F1, Histogram, Ratio
from seqjax.mixers import attention, gru
from seqjax.models import Model, stack
from seqjax.ops import losses
from seqjax.tasks.classification import Classification
from seqjax.tasks.next_token import NextToken
from seqjax.training import state as state_lib
from seqjax.training.guard import Norms
from seqjax.training.learners.gradient import Gradient
from seqjax.training.net import Net
from seqjax.training.optim import Optim
from seqjax.training.step import make_eval_step, make_train_step, zero_totals
from seqjax.types import ConfigError

pytestmark = pytest.mark.usefixtures("compile_once")

B, L, V, F, C = 8, 6, 7, 2, 3
TOKENS = spec.tokens(V, L, classes=C)
FEATURES = spec.features(F, L, classes=C)
MIXERS = {"gru": gru.Mixer, "attention": functools.partial(attention.Mixer, heads=2, max_length=L)}


def batch(seed=0, scored=False, features=False, lengths=(6, 0, 2, 5, 1, 6, 3, 4)):
    """Ragged rows, one of them empty; row 5 only fills up the batch."""
    random = np.random.default_rng(seed)
    out = {
        "mask": np.arange(L)[None] < np.array(lengths)[:, None],
        "weight": np.float32(np.arange(B) != 5),
        "label": random.integers(C, size=B, dtype=np.int32),
        "tokens": random.integers(V, size=(B, L), dtype=np.int32),
    }
    if scored:
        out["scored"] = random.random((B, L)) < 0.5
    if features:
        del out["tokens"]
        out["features"] = random.normal(size=(B, L, F)).astype(np.float32)
    return out


def language_model(mixer="gru", dropout=0.0):
    size = dict(width=8, layers=1, expansion=1, dropout=dropout)
    model = stack.Model(inputs=TOKENS, head=logits(V), mixer=MIXERS[mixer], **size)
    return model, NextToken(spec=TOKENS)


def class_model(mixer="gru", spec=FEATURES, **options):
    head = classes(C, **options)
    model = stack.Model(inputs=spec, head=head, width=8, layers=1, expansion=0, mixer=MIXERS[mixer])
    return model, Classification(spec=spec)


PLAIN = optax.sgd(1.0)


def steps_of(model, task, data, *, tx=PLAIN, seed=0, **options):
    """`Steps`, made once for all that ask for the same ones."""
    shapes = tuple((name, a.shape, a.dtype) for name, a in data.items())
    return _steps_of(model, task, shapes, tx, seed, tuple(options.items()))


@functools.cache
def _steps_of(model, task, shapes, tx, seed, options):
    return Steps(model, task, {name: np.zeros(shape, dtype) for name, shape, dtype in shapes}, tx, seed, dict(options))


class Steps:
    """A compiled step and the state before it."""

    def __init__(self, model, task, data, tx, seed, options):
        step = make_train_step(model, task, Gradient(task=task, tx=tx), **options)
        looks = [options.get(name) is not None for name in ("ema", "spike")]
        init = functools.partial(state_lib.init, model, task, tx, data, seed, *looks)
        self.state = jax.jit(init)()
        self.zeros = zero_totals(step, self.state, data)
        self.step = jax.jit(step)

    def __call__(self, *batches, state=None):
        """(state, totals) after some batches."""
        state, totals = state or self.state, self.zeros
        for data in batches:
            state, totals = self.step(state, totals, data)
        return state, totals


def close(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **{"rtol": 1e-5, "atol": 1e-6, **tolerance}), a, b)


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("make", [language_model, class_model], ids=["tokens", "features"])
def test_the_step_is_gradient_descent_on_the_mean_loss(make):
    """With plain SGD and rate 1, theta - gradient of the eval step's mean."""
    model, task = make()
    data = batch(features=make is class_model)
    steps = steps_of(model, task, data)
    evaluate = make_eval_step(model, task)

    def loss(params):
        ratio = evaluate(params, data)[0]["loss"]
        return ratio.total / ratio.weight

    value, gradient = jax.jit(jax.value_and_grad(loss))(steps.state.params)
    state, totals = steps(data)
    close(state.params, jax.tree.map(jnp.subtract, steps.state.params, gradient))
    assert totals["loss"].mean() == pytest.approx(float(value), rel=1e-5)
    norm = math.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(gradient)))
    assert totals["grad_norm"].mean() == pytest.approx(norm, rel=1e-4)
    assert int(state.step) == 1 and int(state.bad) == 0


@pytest.mark.parametrize(("accumulate", "scored"), [(2, False), (4, True), (8, False)])
def test_micro_batches_change_nothing(accumulate, scored):
    """Although they hold different numbers of tokens, down to none: the mean is over the batch, not over means."""
    model, task = language_model()
    task = dataclasses.replace(task, spec=spec.tokens(V, L, scored=scored))
    data = batch(scored=scored)
    one, parts = (steps_of(model, task, data, accumulate=n)(data) for n in (1, accumulate))
    close(parts[0].params, one[0].params)
    close(parts[1], one[1])


def two_terms():
    """The objective adds up a mean over tokens and a mean over rows."""
    model, _ = language_model()
    return model, Both(spec=TOKENS)


@functools.cache
def slope_of_two_terms():
    """The gradient of the unsplit batch, from the formula, and the batch."""
    (model, task), data = two_terms(), batch()
    params = steps_of(model, task, data).state.params

    def objective(params):
        metrics = make_eval_step(model, task)(params, data)[0]
        return sum(c * metrics[k].total / metrics[k].weight for k, c in task.terms.items())

    return params, jax.jit(jax.grad(objective))(params), data


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_terms_of_other_weights_have_the_gradient_of_the_whole_batch(accumulate):
    """Although micro-batches hold other shares of tokens than of rows."""
    (params, slope, data), (model, task) = slope_of_two_terms(), two_terms()
    state, totals = steps_of(model, task, data, accumulate=accumulate)(data)
    close(state.params, jax.tree.map(jnp.subtract, params, slope))
    norm = math.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(slope)))
    assert totals["grad_norm"].mean() == pytest.approx(norm, rel=1e-4)
    for name, weight in task.weights(data).items():
        assert totals[name].weight == weight


@pytest.mark.parametrize("accumulate", [1, 2])
def test_terms_of_other_weights_have_it_on_several_devices(accumulate):
    """A vmap with a name stands for pmap: each device has two rows; `test_parallel.py` has real devices."""
    (params, slope, data), (model, task) = slope_of_two_terms(), two_terms()
    step = make_train_step(model, task, Gradient(task=task, tx=PLAIN), accumulate=accumulate, axis="data")
    parts = jax.tree.map(lambda a: a.reshape(4, 2, *a.shape[1:]), data)
    start = steps_of(model, task, data)
    on_all = jax.vmap(step, in_axes=(None, None, 0), axis_name="data")
    state, totals = jax.jit(on_all)(start.state, start.zeros, parts)
    for device in range(4):
        mine = jax.tree.map(lambda a, device=device: a[device], (state.params, totals))
        close(mine[0], jax.tree.map(jnp.subtract, params, slope))
        assert mine[1]["row_loss"].weight == 7


def test_several_terms_need_their_weights():
    class Two(NextToken):
        terms = {"loss": 1.0, "accuracy": -0.5}

    model, task = language_model()
    with pytest.raises(ConfigError, match=r"Two has the terms loss, accuracy: define `weights\(batch\)`"):
        Steps(model, Two(spec=task.spec), batch(), PLAIN, 0, {})


class Sowing(Model):
    """A model of single tokens, whose hidden features are to be small."""

    @nn.compact
    def __call__(self, tokens_BL, state=None, *, mask_BL=None, reset_BL=None, deterministic=True):
        x_BLD = nn.Embed(V, 4, name="embedding")(tokens_BL)
        self.sow("losses", "size", jnp.sum(jnp.square(x_BLD) * mask_BL[..., None]))
        x_BLD = nn.Dropout(0.5, deterministic=deterministic)(x_BLD)
        return nn.Dense(V, name="head")(x_BLD), state


class Asking(NextToken):
    """Asks the net for all that it has: what modules sow, a draw by name, and a teacher."""

    terms = {"loss": 1.0, "size": 0.1, "apart": 2.0}
    metrics = {"loss": "less", "size": "less", "apart": "less"}

    def weights(self, batch):
        tokens, rows = jnp.float32(batch["mask"][:, :-1].sum()), jnp.sum(batch["weight"])
        return {"loss": batch["mask"][:, 1:].sum() * 1.0, "size": tokens, "apart": rows}

    def objective(self, net, batch, carry):
        reads, weights = self.reads(batch), self.weights(batch)
        prediction, carry, sown = net(reads, carry, sown=("losses",))
        noise_BLV = jax.random.normal(net.draw("noise"), prediction.shape)
        nll_BL = losses.cross_entropy(prediction + 0.1 * noise_BLV, batch["tokens"][:, 1:])
        apart_BLV = jnp.square(prediction - net.others["teacher"](reads).prediction)
        return {
            "loss": Ratio.of(nll_BL, batch["mask"][:, 1:]),
            "size": Ratio(sum(jax.tree.leaves(sown["losses"])), weights["size"]),
            "apart": Ratio(jnp.sum(apart_BLV.mean((1, 2)) * batch["weight"]), weights["apart"]),
        }, {}, carry  # fmt: skip


def test_a_net_hands_out_what_modules_sow_draws_by_name_and_a_teacher():
    model, task = Sowing(inputs=TOKENS, head=logits(V)), Asking(spec=TOKENS)
    data = batch(lengths=(6, 3, 2, 5, 1, 6, 3, 4))
    teacher = stack.Model(inputs=TOKENS, head=logits(V), width=4, layers=1, expansion=0, mixer=gru.Mixer)
    learner = Gradient(task=task, tx=PLAIN)
    step = make_train_step(model, task, learner, others={"teacher": teacher})
    state = jax.jit(functools.partial(state_lib.init, model, task, learner, data, 0, False))()
    aux = {"teacher": jax.jit(teacher.init)(jax.random.key(5), data["tokens"])["params"]}
    state = state.replace(aux=aux)
    compiled, zeros = jax.jit(step), zero_totals(step, state, data)
    after, totals = compiled(state, zeros, data)
    equal(after.aux, aux)  # a teacher is frozen
    _, other = compiled(state.replace(aux=jax.tree.map(lambda a: a + 1, aux)), zeros, data)
    assert other["apart"].total != totals["apart"].total and compiled._cache_size() == 1  # its parameters are arguments

    key, reads = jax.random.fold_in(jax.random.wrap_key_data(state.key), 0), task.reads(data)
    noise_BLV = jax.random.normal(jax.random.fold_in(key, zlib.crc32(b"noise")), (B, L - 1, V))
    real_BL = data["mask"][:, 1:]

    def objective(params):
        rngs = {"dropout": key}
        logits_BLV = model.apply({"params": params}, reads.x, mask_BL=reads.mask_BL, deterministic=False, rngs=rngs)[0]
        logp_BLV = jax.nn.log_softmax(logits_BLV + 0.1 * noise_BLV)
        nll_BL = -jnp.take_along_axis(logp_BLV, data["tokens"][:, 1:, None], axis=2)[..., 0]
        size = jnp.sum(jnp.square(params["embedding"]["embedding"][reads.x]) * reads.mask_BL[..., None])
        theirs_BLV = teacher.apply({"params": aux["teacher"]}, reads.x, mask_BL=reads.mask_BL)[0]
        apart_B = jnp.square(logits_BLV - theirs_BLV).mean((1, 2))
        parts = jnp.sum(nll_BL * real_BL) / real_BL.sum(), size / reads.mask_BL.sum(), apart_B @ data["weight"] / 7
        return jnp.dot(jnp.stack(parts), jnp.array([1.0, 0.1, 2.0]))

    slope = jax.jit(jax.grad(objective))(state.params)
    close(after.params, jax.tree.map(jnp.subtract, state.params, slope))
    assert not np.array_equal(*(jax.random.key_data(Net(model, key=key).draw(name)) for name in ("noise", "other")))


def test_a_pass_on_given_embeddings_is_the_rest_of_a_pass():
    """Dropout included; so that a task can move the embeddings along their gradient."""
    model, task = language_model(dropout=0.3)
    reads, key = task.reads(batch()), jax.random.key(1)
    params = jax.jit(model.init)(jax.random.key(0), reads.x)["params"]

    @jax.jit
    def both(params):
        net = Net(model, params, key)
        x_BLD, mask_BL = net.embed(reads)
        total = lambda x_BLD: net(reads, embedded=(x_BLD, mask_BL)).prediction.sum()
        return net(reads).prediction, net(reads, embedded=(x_BLD, mask_BL)).prediction, jax.grad(total)(x_BLD)

    whole, rest, slope_BLD = both(params)
    equal(whole, rest)
    assert np.any(slope_BLD[0]) and not np.any(slope_BLD[1])  # a row without tokens
    with pytest.raises(ConfigError, match=r"Sowing has no embeddings .*: choose a model that has"):
        Net(Sowing(inputs=TOKENS, head=logits(V)), params)(reads, embedded=(slope_BLD, None))


class Counted(Classification):
    """With metrics that are several sums, some of them arrays."""

    metrics = {**Classification.metrics, "f1": "more", "auc": "more"}

    def loss(self, prediction, batch):
        one_hot = lambda a: jax.nn.one_hot(a, C, dtype=bool)
        weight_BC = jnp.repeat(batch["weight"][:, None], C, axis=1)
        f1 = F1.of(one_hot(jnp.argmax(prediction, axis=1)), one_hot(batch["label"]), weight_BC, axis=0)
        auc = Histogram.of(jax.nn.softmax(prediction)[:, 0], batch["label"] == 0, batch["weight"], bins=5)
        return {**super().loss(prediction, batch), "f1": f1, "auc": auc}


def test_metrics_of_several_sums_add_up_and_a_bad_step_adds_nothing():
    model, task = class_model()[0], Counted(spec=FEATURES)
    data = batch(features=True)
    one, parts = (steps_of(model, task, data, accumulate=n) for n in (1, 4))
    whole = one(data)
    close(parts(data)[1], whole[1])
    assert whole[1]["f1"].tp.shape == (C,) and type(whole[1]["auc"]) is Histogram
    both = one({**data, "features": data["features"] * np.inf}, state=whole[0])
    equal(both[1]["f1"], one.zeros["f1"])
    close(one(data, data)[1]["auc"].positive.sum(), 2 * whole[1]["auc"].positive.sum())


def test_a_metric_that_is_not_declared_is_refused():
    model, task = class_model()[0], Counted(spec=FEATURES)
    object.__setattr__(task, "metrics", Classification.metrics)
    with pytest.raises(ConfigError, match=r"Counted returned the metrics accuracy, auc, f1, loss, macro_f1, but"):
        Steps(model, task, batch(features=True), PLAIN, 0, {})


def test_totals_add_up_over_steps():
    model, task = language_model()
    batches = [batch(seed, lengths=np.roll((6, 0, 2, 5, 1, 6, 3, 4), seed)) for seed in range(3)]
    steps = steps_of(model, task, batches[0])
    state, weights, sums = steps.state, 0, 0
    for data in batches:
        state, totals = steps(data, state=state)
        sums, weights = sums + totals["loss"].total, weights + totals["loss"].weight
    _, totals = steps(*batches)
    close((totals["loss"].total, totals["loss"].weight), (sums, weights))
    assert totals["skipped"].weight == 3 and totals["skipped"].total == 0


MODELS = {
    "lm gru": lambda: language_model("gru"),
    "lm attention": lambda: language_model("attention"),
    **{f"{pool} {m}": functools.partial(class_model, m, TOKENS, pool=pool)
       for pool, m in (("mean", "gru"), ("last", "attention"), ("max", "gru"), ("attention", "attention"))},
}  # fmt: skip


@pytest.mark.parametrize(
    ("make", "accumulate"), [*((make, 1) for make in MODELS.values()), (language_model, 2)], ids=[*MODELS, "accumulate"]
)
def test_a_batch_without_a_valid_token_teaches_nothing(make, accumulate):
    model, task = make()
    data = batch()
    data["mask"] = np.zeros_like(data["mask"])
    data["weight"] = np.zeros_like(data["weight"])
    steps = steps_of(model, task, data, accumulate=accumulate)
    state, totals = steps(data)
    equal(state.params, steps.state.params)
    assert totals["loss"].weight == 0 and totals["loss"].total == 0
    assert totals["grad_norm"].mean() == 0 and totals["skipped"].total == 0 and state.bad == 0


@pytest.mark.parametrize(("poison", "accumulate"), [(np.nan, 1), (np.inf, 4), (3e38, 1)])
def test_a_poisoned_batch_changes_nothing_but_the_counters(poison, accumulate):
    model, task = class_model()
    good, bad = batch(features=True), batch(seed=1, features=True)
    bad["features"][0, 1, 0] = poison
    if np.isfinite(poison):
        bad["features"][:] = poison  # the loss overflows
    steps = steps_of(model, task, good, tx=optax.adam(0.1), ema=0.9, accumulate=accumulate)
    before, _ = steps(good)
    after, totals = steps(bad, bad, state=before)
    for field in ("params", "opt_state", "ema", "key"):
        equal(getattr(after, field), getattr(before, field))
    assert int(after.step) == int(before.step) + 2 and int(after.bad) == 2
    assert totals["skipped"].total == 2 and totals["skipped"].weight == 2
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(totals))
    good_again, totals = steps(good, state=after)
    assert int(good_again.bad) == 0 and totals["loss"].weight > 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(good_again))


def test_the_rate_is_that_of_the_step_whatever_was_skipped():
    model, task = class_model()
    good, bad = batch(features=True), batch(seed=1, features=True)
    bad["features"][0, 1, 0] = np.nan
    optim = Optim(name="sgd", schedule="linear", final_scale=0.0, learning_rate=0.5, clip_norm=None)
    steps = steps_of(model, task, good, tx=optim.build(11))
    first, _ = steps(good)
    late, _ = steps(good, state=steps(*[bad] * 5)[0])
    moved = lambda state: jax.tree.map(jnp.subtract, state.params, steps.state.params)
    close(moved(late), jax.tree.map(lambda a: a * 0.5, moved(first)))  # half of the way is behind


def test_the_mean_of_norms_is_that_of_a_loop():
    """Over good steps: all of them at first, then with a weight of one hundredth; and it says what a spike is."""
    norms, mean, random = Norms.zero(), 0.0, np.random.default_rng(0)
    add = jax.jit(lambda norms, norm: norms.add(norm))
    for t, norm in enumerate(random.exponential(size=130), 1):
        assert bool(norms.is_spike(jnp.float32(4.1 * mean + 0.1), 4.0)) == (t > 10)
        assert not norms.is_spike(jnp.float32(3.9 * mean), 4.0)
        norms = add(norms, jnp.float32(norm))
        mean += (norm - mean) / min(t, 100)
        assert float(norms.mean) == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize(("spike", "skipped"), [(2.0, 1), (4.0, 0)])
def test_a_spike_changes_nothing_but_the_counters(spike, skipped):
    """Here the norm is three times the mean it is held against, which a spike does not enter."""
    model, task = language_model()
    steps = steps_of(model, task, batch(), spike=spike)
    norm = steps(batch())[1]["grad_norm"].total
    before = steps.state.replace(norms=Norms(norm / 3, jnp.float32(50)))
    after, totals = steps(batch(), state=before)
    assert totals["skipped"].total == totals["bad"].total == after.bad == skipped
    if skipped:
        equal((after.params, after.norms), (before.params, before.norms))
    else:
        assert float(after.norms.mean) == pytest.approx(float(norm) * (1 / 3 + 2 / 3 / 51), rel=1e-5)


def test_dropout_is_a_function_of_seed_and_step():
    model, task = language_model(dropout=0.5)
    data = batch()
    keys = [steps_of(model, task, data, seed=seed).state.key for seed in (0, 1)]
    runs = [Steps(model, task, data, PLAIN, 0, {}) for _ in range(2)]  # not the same program
    loss = lambda run, key, step: float(
        run(data, state=run.state.replace(step=jnp.int32(step), key=key))[1]["loss"].total
    )
    first, second = ([loss(run, key, step) for key in keys for step in (0, 3)] for run in runs)
    assert first == second and len(set(first)) == 4


def test_the_moving_average_is_that_of_a_loop():
    model, task = language_model()
    batches = [batch(seed) for seed in range(4)]
    steps = steps_of(model, task, batches[0], ema=0.7)
    state, average = steps.state, steps.state.params
    equal(state.ema, average)
    for data in batches:
        state, _ = steps(data, state=state)
        average = jax.tree.map(lambda a, p: 0.7 * a + 0.3 * p, average, state.params)
        close(state.ema, average)
    equal(state.eval_params, state.ema)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_parameters_and_optimiser_stay_float32(dtype):
    model, task = language_model()
    model = model.clone(dtype=dtype)
    steps = steps_of(model, task, batch(), tx=optax.adam(0.1))
    state, totals = steps(batch())
    leaves = jax.tree.leaves((state.params, state.opt_state, totals))
    assert {str(leaf.dtype) for leaf in leaves} <= {"float32", "int32"}
    assert totals["skipped"].total == 0


def test_a_large_batch_in_float16_learns_what_float32_does():
    """1,200 rows of 128 tokens, whose wishes add up to more than float16 can be."""
    data = {
        "tokens": np.random.default_rng(0).choice(V, p=[0.7, *[0.05] * 6], size=(1200, 128)).astype(np.int32),
        "mask": np.ones((1200, 128), bool),
        "weight": np.ones(1200, np.float32),
    }
    model, task = language_model()
    wanted, half = (steps_of(model.clone(dtype=dtype), task, data) for dtype in ("float32", "float16"))
    (after, _), (low, totals) = wanted(data), half(data)
    assert totals["skipped"].total == 0
    moved = lambda a, b: np.linalg.norm(np.subtract(a, b))
    far = jax.tree.map(lambda p, a, b: moved(a, b) / moved(a, p), wanted.state.params, after.params, low.params)
    assert max(jax.tree.leaves(far)) < 0.02, far


def test_every_task_has_a_monitor_that_its_loss_reports():
    for name, data in (("next_token", batch(scored=True)), ("classification", batch())):
        task = find(name, "seqjax.tasks", "Task")(spec=TOKENS)
        shape = (B, L - 1, V) if name == "next_token" else (B, C)
        metrics = task.loss(jnp.zeros(shape), data)
        assert {"loss", task.monitor} <= set(metrics)
