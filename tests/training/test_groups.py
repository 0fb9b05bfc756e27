"""Groups of parameters against a loop over plain optimisers of optax, one for each group."""

import json
import shutil

import jax
import jax.numpy as jnp
import launch
import numpy as np
import optax
import pytest

from seqjax.training import groups
from seqjax.training.checkpoint import Checkpoints
from seqjax.training.experiment import Experiment, resolve
from seqjax.training.groups import Group
from seqjax.training.optim import OPTIMISERS, Optim
from seqjax.training.stored import digest, empties
from seqjax.types import ConfigError

STEPS, CLIP, DECAY = 5, 0.7, 0.3
SHAPES = {"embedding": {"kernel": (5, 4)}, "blocks_0": {"kernel": (4, 4), "bias": (4,)}, "head": {"kernel": (4, 3)}}
PARAMS = jax.tree.map(
    lambda shape: jnp.asarray(np.random.default_rng(shape).normal(size=shape), jnp.float32),
    SHAPES,
    is_leaf=lambda x: isinstance(x, tuple),
)
GROUPS = (Group("embedding/.*", rate=0.0), Group("blocks_.*/kernel", rate=0.5, decay=2.0, from_step=2))


def slope(params):
    return jax.tree.map(lambda p: p - 0.3, params)


def run(optim, params=PARAMS, first=0):
    """The parameters before each step, and the last state."""
    tx = optim.build(STEPS)
    state, out = tx.init(params), [params]
    update = jax.jit(lambda p, s, step: tx.update(slope(p), s, p, step=step))
    for step in range(first, STEPS):
        updates, state = update(out[-1], state, step)
        out.append(optax.apply_updates(out[-1], updates))
    return out, state


def arrays(state) -> list[str]:
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]


def flat(params) -> dict:
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(p)
        for path, p in jax.tree_util.tree_leaves_with_path(params)
    }


def by_hand(name, rates, starts, decays):
    """The parameters before each step: one plain optimiser for each array, which is made at its first step."""
    theta, made, out = flat(PARAMS), {}, [flat(PARAMS)]
    tx = OPTIMISERS[name](learning_rate=1.0)
    apply = jax.jit(tx.update)
    for step in range(STEPS):
        active = [n for n in theta if rates[n] and step >= starts[n]]
        grads = {n: theta[n] - np.float32(0.3) for n in active}
        norm = np.sqrt(sum(np.sum(np.square(g)) for g in grads.values()))
        for n in active:
            state = made[n] if n in made else tx.init(theta[n])
            update, made[n] = apply(jnp.asarray(grads[n] * min(1, CLIP / norm)), state, theta[n])
            decay = 0.0 if theta[n].ndim < 2 or name == "adam" else DECAY * decays[n] * theta[n]
            theta = theta | {n: theta[n] + 0.1 * rates[n] * (np.asarray(update) - decay)}
        out.append(theta)
    return out


@pytest.mark.parametrize("name", OPTIMISERS)
def test_groups_are_a_loop_over_plain_optimisers(name):
    """Frozen arrays keep their bits; the first step of an array is that of a new optimiser, at whatever step."""
    optim = Optim(
        name=name, learning_rate=0.1, schedule="constant", clip_norm=CLIP, groups=GROUPS,
        weight_decay=0.0 if name == "adam" else DECAY,
    )  # fmt: skip
    found, state = run(optim)
    rates = {"embedding/kernel": 0.0, "blocks_0/kernel": 0.5, "blocks_0/bias": 1.0, "head/kernel": 1.0}
    starts, decays = ({n: default for n in rates} | {"blocks_0/kernel": 2} for default in (0, 1))
    for ours, wanted in zip(found, by_hand(name, rates, starts, decays), strict=True):
        for n, array in flat(ours).items():
            np.testing.assert_allclose(array, wanted[n], rtol=1e-5, atol=1e-6, err_msg=n)
            if not rates[n]:
                np.testing.assert_array_equal(array, flat(PARAMS)[n])
    assert not [array for array in arrays(state) if "embedding" in array]


def test_moments_are_zero_until_a_group_starts():
    tx = Optim(groups=GROUPS).build(STEPS)
    state, update = tx.init(PARAMS), jax.jit(tx.update)
    for step in range(3):
        _, after = update(slope(PARAMS), state, PARAMS, step=step)
        late = [part.inner_states["from_2"] for part in (state[2], after[2])]
        same = [np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, late), strict=True)]
        assert len(same) == 3 and all(same) == (step < 2) and any(same) == (step < 2)
        state = after


def test_rates_and_decays_alone_need_no_other_state():
    plain = Optim(learning_rate=0.1, weight_decay=DECAY, clip_norm=None)
    half = Optim(learning_rate=0.05, weight_decay=DECAY / 2, clip_norm=None)
    mixed = Optim(learning_rate=0.1, weight_decay=DECAY, clip_norm=None, groups=(Group("blocks.*", 0.5, 0.5),))
    (ours, state), (slow, _), (fast, other) = map(run, (mixed, half, plain))
    assert [a.partition("]")[2] for a in arrays(state)] == [a.partition("]")[2] for a in arrays(other)]
    for now, s, f in zip(ours, slow, fast, strict=True):
        jax.tree.map(np.testing.assert_array_equal, now, {**f, "blocks_0": s["blocks_0"]})


@pytest.mark.parametrize("decay", [0.0, DECAY])
def test_without_groups_the_state_is_that_of_before(decay):
    matrices = jax.tree.map(lambda p: p.ndim > 1, PARAMS)
    chain = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adam(1.0),
        optax.add_decayed_weights(-decay, mask=matrices) if decay else optax.identity(),
        optax.identity(),
    )
    ours, before = (tx.init(PARAMS) for tx in (Optim(weight_decay=decay).build(STEPS), chain))
    assert jax.tree.structure(ours) == jax.tree.structure(before) and empties(ours) == empties(before)


def test_layers_learn_more_slowly_towards_the_embedding():
    names = ["embedding", *(f"blocks_{i}" for i in range(12)), "norm_out", "head"]
    tree = {name: {"kernel": jnp.zeros(1)} for name in (*names, "source_embedding", "encoder_blocks_0", "norm_memory")}
    found = {name: groups.rules((), 0.5, tree)[f"{name}/kernel"].rate for name in tree}
    assert [found[name] for name in names] == [0.5**13, *(0.5 ** (12 - i) for i in range(12)), 1, 1]
    assert [found[name] for name in ("source_embedding", "encoder_blocks_0", "norm_memory")] == [0.5**13, 0.5, 1]
    both = groups.rules((Group("blocks_11/.*", 0.2), Group("blocks_.*", 0.0)), 0.5, tree)
    assert [both[f"blocks_{i}/kernel"].rate for i in (11, 10)] == [0.1, 0] and both["blocks_10/kernel"].start is None
    told = groups.told((Group("blocks_11/.*", 0.2), Group("blocks_.*", 0.0)), 0.5, tree)
    assert told == [
        "blocks_11/.*: 1 of 18 parameters, rate x 0.2",
        "blocks_.*: 11 of 18 parameters, frozen",
        "others: 6 of 18 parameters, rate x 1",
        "layer_decay: rate x 0.000122 in embedding, source_embedding, rising to x 1 in head, norm_memory, norm_out",
    ]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"groups": (Group("haed/.*"),)},
            "groups.0.match='haed/.*' matches no whole path .* mean 'head/\\.\\*'. Paths",
        ),
        ({"groups": (Group("head"),)}, "mean 'head/.*'. Paths are blocks_0/bias, blocks_0/kernel, embedding/kernel"),
        ({"groups": (Group("head.*"), Group(".*kernel"), Group("head/kernel"))}, "groups.2.* of earlier groups.*move"),
        ({"groups": (Group(".*", 0.0),)}, "freezes all parameters"),
        ({"groups": (Group("head/.*", 0.0), Group(".*", from_step=1))}, "freezes all parameters at step 0"),
    ],
)
def test_groups_that_do_not_fit_the_parameters(fields, said):
    with pytest.raises(ConfigError, match=said):
        Optim(**fields).rules(PARAMS)


def test_a_model_without_blocks_has_no_layer_decay():
    with pytest.raises(ConfigError, match="layer_decay needs a model with blocks"):
        Optim(layer_decay=0.5).rules({"head": PARAMS["head"]})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["optim.groups=[{'match': '('}]"], "optim.groups.0: match='(' is not a regular expression"),
        (["optim.groups=[{'match': 'a', 'rate': -1}]"], "optim.groups.0.rate: got -1, wanted a float of at least 0"),
        (["optim.groups=[{'match': 'a', 'decay': -1}]"], "optim.groups.0.decay: got -1, wanted a float of at least 0"),
        (["optim.groups=[{'match': 'a', 'rate': 0, 'from_step': 2}]"], "remove one of the two"),
        (["optim.groups=[{'match': 'a', 'lr_mult': 2}]"], "optim.groups.0.lr_mult is not a key. Did you mean 'rate'?"),
        (["optim.groups=[{'match': 'a', 'from_step': 4}]"], "optim.groups.0.from_step=4 is after the last step"),
        (["optim.groups=[{'rate': 2}]"], "optim.groups.0.match is required and missing"),
        (["optim.groups=['head/.*']"], "optim.groups.0: got 'head/.*', wanted a section with match, rate"),
        (
            ["optim.groups={'match': 'head/.*'}"],
            'of sections with match, rate, decay, from_step: write [{"match": ...}]',
        ),
        (["optim.groups.0.rate=0"], "optim.groups: got {'0': {'rate': 0}}, wanted a list of sections"),
        (["optim.freeze=embedding"], "optim.freeze is not a key. Did you mean 'groups=LIST'?"),
        (["optim.layer_decay=0"], "optim.layer_decay: got 0, wanted a float above 0 and below 1"),
        (["optim.groups=[{'match': 'haed/.*'}]"], "optim.groups.0.match='haed/.*' matches no whole path"),
        (["optim.groups=[{'match': '.*', 'rate': 0}]"], "optim.groups freezes all parameters"),
    ],
)
def test_what_is_wrong_in_a_config_is_said(tmp_path, words, said):
    file = launch.write(tmp_path / "c.json", launch.tiny())
    outcome = launch.main("train", "--config", file, "--dry_run", *(f"--config.{word}" for word in words))
    assert outcome.code == 2 and said in outcome.err, outcome


def test_groups_are_set_by_index_and_the_dry_run_shows_them(tmp_path):
    tree = launch.tiny("optim.layer_decay=0.5")
    tree["optim"]["groups"] = [{"match": "embedding/.*", "rate": 0.0}, {"match": r"blocks_\d+/.*"}]
    train = ("train", "--config", launch.write(tmp_path / "c.json", tree), "--config.optim.groups.1.from_step=3")
    printed = json.loads(launch.main(*train, "--print_config").out)
    assert printed["optim"]["groups"][1] == {"match": r"blocks_\d+/.*", "rate": 1.0, "decay": 1.0, "from_step": 3}
    out = launch.main(*train, "--dry_run").out
    lines = {line.split()[0]: line.rstrip() for line in out.splitlines() if line.strip()}
    assert lines["embedding/embedding"].endswith("frozen") and lines["head/bias"].endswith("rate x 1")
    assert lines["blocks_0/norm_mixer/scale"].endswith("rate x 0.5, from step 3")
    assert "optim            embedding/.*: 40 of" in out and "parameters, frozen" in out


def test_a_run_freezes_and_starts_later_and_resumes_to_the_same_bits(tmp_path):
    """With accumulation, a moving average, a guard of spikes and weight decay; stopped before the head starts."""
    tree = launch.tiny(
        "train.checkpoint_every=1", "train.keep_checkpoints=9", "train.accumulation_steps=2", "optim.ema_decay=0.9",
        "optim.weight_decay=0.1", "optim.schedule=constant", "guard.spike=100.0",
    )  # fmt: skip
    tree["optim"]["groups"] = [{"match": "embedding/.*", "rate": 0}, {"match": "head/.*", "from_step": 2}]
    train = ("train", "--config", launch.write(tmp_path / "c.json", tree), "--workdir")
    out = launch.main(*train, tmp_path / "whole").out
    assert "optim: embedding/.*: 40 of" in out and "optim: head/.*: " in out
    e = Experiment(resolve(tree))
    first = e.make_state()
    states = [first, *(saved(tmp_path / "whole", step, e) for step in range(1, 5))]
    for step, state in enumerate(states):
        for name, array in flat(state.params).items():
            begin = flat(first.params)[name]
            held = name.startswith("embedding") or (name.startswith("head") and step <= 2)
            for now in (array, flat(state.ema)[name]):
                assert np.array_equal(now, begin) == (held or step == 0), (name, step)
    shutil.copytree(tmp_path / "whole", tmp_path / "half")
    Checkpoints(tmp_path / "half" / "ckpt").forget(2)
    (tmp_path / "half" / "status.json").unlink()
    assert launch.main(*train, tmp_path / "half").code == 0
    assert launch.final(tmp_path / "half") == launch.final(tmp_path / "whole") == (4, digest(states[-1]))
    assert launch.rows(tmp_path / "half") == launch.rows(tmp_path / "whole")
    check_norms(e, states, launch.rows(tmp_path / "whole"))
    other = ("--config.train.steps=6", "--config.optim.groups.1.from_step=3")
    outcome = launch.main(*train, tmp_path / "half", *other)
    assert outcome.code == 4 and "is of another optimiser" in outcome.err, outcome


def saved(folder, step, experiment):
    """The state at a step."""
    folder = shutil.copytree(folder, folder.parent / f"at {step}")
    checkpoints = Checkpoints(folder / "ckpt")
    checkpoints.forget(step + 1)
    return checkpoints.restore(experiment.parallel.layout(4, 2).abstract(experiment.shapes))[0]


def check_norms(e, states, rows):
    """`grad_norm` is the norm over the arrays that train at a step."""

    def loss(params, batch):
        reads = e.task.reads(batch)
        prediction, _ = e.model.apply({"params": params}, reads.x, None, **reads.keywords(e.model), deterministic=True)
        ratio = e.task.loss(prediction, batch)["loss"]
        return ratio.total / ratio.weight

    wanted = [row["grad_norm"] for row in rows if row["split"] == "train"]
    slopes = jax.jit(jax.grad(loss))
    for step, batch in enumerate(e.batches.iterate(0, 4)):
        grads = flat(slopes(states[step].params, batch))
        kept = [
            g for n, g in grads.items() if not n.startswith("embedding") and (step >= 2 or not n.startswith("head"))
        ]
        assert np.sqrt(sum(np.sum(np.square(g)) for g in kept)) == pytest.approx(wanted[step], rel=1e-4)
