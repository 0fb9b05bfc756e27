"""Optimisers and schedules against optax by hand and numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seqjax.training.optim import OPTIMISERS, Optim

PARAMS = {
    "kernel": jnp.asarray(np.random.default_rng(0).normal(size=(4, 6)), jnp.float32),
    "bias": jnp.asarray(np.random.default_rng(1).normal(size=6), jnp.float32),
}


def quadratic(params):
    return sum(jnp.sum(jnp.square(p - 0.3)) for p in jax.tree.leaves(params))


def run(tx, params=PARAMS, steps=5, gradient=None):
    """Every state of the parameters, the first included."""
    state, out = tx.init(params), [params]
    gradient = gradient or jax.grad(quadratic)
    tx = optax.with_extra_args_support(tx)
    update = jax.jit(lambda p, s, step: tx.update(gradient(p), s, p, step=step))
    for step in range(steps):
        updates, state = update(params, state, step)
        params = optax.apply_updates(params, updates)
        out.append(params)
    return out


def norm(tree):
    return float(np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(tree))))


def close(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **{"rtol": 1e-6, "atol": 1e-7, **tolerance}), a, b)


def test_every_optimiser_of_the_annotation_is_there_and_no_other():
    assert set(OPTIMISERS) == set(Optim.__annotations__["name"].__args__)


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_every_optimiser_lowers_a_quadratic(name, decay):
    optim = Optim(name=name, learning_rate=0.1, weight_decay=decay if name != "adam" else 0.0, warmup_steps=3)
    found = run(optim.build(100), steps=100)
    assert quadratic(found[-1]) < 0.1 * quadratic(found[0])


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("warmup", [0, 1, 2, 7])
def test_schedules_rise_to_the_peak_and_end_where_they_say(schedule, warmup):
    steps, optim = 20, Optim(learning_rate=0.5, schedule=schedule, warmup_steps=warmup, final_scale=0.2)
    lr = np.array([float(optim.rate(steps)(step)) for step in range(steps)])
    rise, main = lr[:warmup], lr[warmup:]
    np.testing.assert_allclose(rise, 0.5 * np.arange(1, warmup + 1) / max(warmup, 1), rtol=1e-6)
    place = np.arange(len(main)) / (len(main) - 1)
    share = {"cosine": (1 + np.cos(np.pi * place)) / 2, "linear": 1 - place, "constant": 1 + 0 * place}[schedule]
    np.testing.assert_allclose(main, 0.5 * (share + 0.2 * (1 - share)), rtol=1e-5)


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (1, 1), (2, 1), (3, 3)])
def test_the_shortest_runs_have_a_learning_rate(steps, warmup):
    lr = [float(Optim(learning_rate=0.5, warmup_steps=warmup).rate(steps)(step)) for step in range(steps)]
    assert max(lr) == 0.5 and min(lr) > 0


def test_the_update_has_the_learning_rate_of_its_step():
    optim = Optim(name="sgd", learning_rate=0.5, warmup_steps=2, clip_norm=None, schedule="linear")
    ones = jax.tree.map(jnp.ones_like, PARAMS)
    found = run(optim.build(5), gradient=lambda p: ones)
    for step in range(5):
        rate = optim.rate(5)(step)
        close(found[step + 1], jax.tree.map(lambda p, r=rate: p - r, found[step]))


def test_adamw_is_that_of_optax():
    optim = Optim(learning_rate=0.1, warmup_steps=2, weight_decay=0.3, clip_norm=0.7)
    ours = run(optim.build(6))
    adamw = optax.adamw(optim.rate(6), weight_decay=0.3, mask={"kernel": True, "bias": False})
    close(ours, run(optax.chain(optax.clip_by_global_norm(0.7), adamw)))


@pytest.mark.parametrize("name", sorted(set(OPTIMISERS) - {"adam"}))
def test_decay_shrinks_matrices_and_leaves_vectors_alone(name):
    """Whatever the optimiser, decay adds -lr * decay * theta to its step, and nothing to a bias."""
    without, decayed = (
        run(Optim(name=name, learning_rate=0.1, schedule="constant", weight_decay=decay).build(5), steps=1)[1]
        for decay in (0.0, 0.5)
    )
    close(decayed["bias"], without["bias"], rtol=0, atol=0)
    close(decayed["kernel"], without["kernel"] - 0.1 * 0.5 * PARAMS["kernel"], atol=1e-6)


@pytest.mark.parametrize("size", [1e-3, 1e3])
def test_clip_bounds_the_norm_over_all_parameters(size):
    gradient = jax.tree.map(lambda p: size * p, PARAMS)
    before, after = run(
        Optim(name="sgd", learning_rate=1.0, clip_norm=0.5).build(1), steps=1, gradient=lambda p: gradient
    )
    step = jax.tree.map(jnp.subtract, before, after)
    scale = min(1, 0.5 / norm(gradient))
    close(step, jax.tree.map(lambda g: scale * g, gradient), rtol=1e-4, atol=1e-6)
    assert norm(step) <= 0.5 * (1 + 1e-5)


@pytest.mark.parametrize(
    ("name", "options", "same"),
    [
        ("adam", {"b1": 0.5, "b2": 0.9, "eps": 1e-3}, optax.adam(0.1, b1=0.5, b2=0.9, eps=1e-3)),
        ("sgd", {"momentum": 0.9, "nesterov": True}, optax.sgd(0.1, momentum=0.9, nesterov=True)),
        ("lion", {"b1": 0.5}, optax.lion(0.1, b1=0.5, weight_decay=0)),
        ("rmsprop", {"decay": 0.5}, optax.rmsprop(0.1, decay=0.5)),
    ],
)
def test_options_reach_optax(name, options, same):
    optim = Optim(name=name, learning_rate=0.1, schedule="constant", clip_norm=None, options=options)
    close(run(optim.build(5)), run(same))


def test_an_error_that_is_not_of_the_options_stays_itself(monkeypatch):
    def init(params):
        raise error

    broken = lambda learning_rate, b1=0.9: optax.GradientTransformation(init, lambda *_: None)
    monkeypatch.setitem(OPTIMISERS, "sgd", broken)
    for error in (MemoryError(), OSError(5, "Input/output error"), RuntimeError("no device")):
        with pytest.raises(type(error)):
            Optim(name="sgd", options={"b1": 0.5})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"options": {"beta2": 0.9}}, "options.beta2 .*adamw.*b2"),
        ({"options": {"b2": "high"}}, "options.b2: got 'high'"),
        ({"options": {"learning_rate": 1.0}}, "options.learning_rate"),
        ({"name": "muon", "options": {"adam_learning_rate": 1e-3}}, "options.adam_learning_rate is not an option"),
        ({"name": "sgd", "options": {"momentum": "high"}}, "options=.*'momentum': 'high'.*sgd refuses"),
        ({"name": "adam", "weight_decay": 0.1}, "choose adamw"),
        ({"learning_rate": float("nan")}, "learning_rate: got nan"),
        ({"name": "adamx"}, "adamw"),
    ],
)
def test_what_optax_would_not_take_is_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        Optim(**fields)
