"""Expectation maximisation in the trainer: expected counts are sums, so all that holds for gradients holds for them."""

import functools
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import launch
import numpy as np
import pytest
from test_learners import last

from seqjax.search.plan import NONE, Entry
from seqjax.training.experiment import Experiment, resolve
from seqjax.training.net import Net
from seqjax.training.step import zero_totals
from seqjax.training.stored import digest
from seqjax.types import ConfigError

close = functools.partial(jax.tree.map, functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-5))


def tree(*overrides, learner="em", **options):
    """A language model of two to three states; its data have rows of several lengths."""
    out = launch.tiny(*overrides)
    out["data"], out["optim"] = {"name": "held.sources:Held"}, {}
    out["model"] = {"name": "hmm", "states": 3, "transition_concentration": 1.5}
    return out | {"learner": {"name": learner, **options}}


def experiment(*overrides, **options):
    return Experiment(resolve(tree(*overrides, **options)))


@functools.cache
def begun():
    """An experiment with plain EM, its state and step, and three batches."""
    e = experiment()
    start = jax.jit(e.make_state)()
    zeros = zero_totals(e.program(), start, e.batches.first)
    return e, start, zeros, jax.jit(e.program()), [e.batches[i] for i in range(3)]


@functools.cache
def collecting():
    """(params, batch) -> what the batch says."""
    e, start, *_ = begun()
    return jax.jit(lambda params, batch: e.learner.collect(Net(e.model), params, batch, {}, None, start.key)[0])


def stacked(batches):
    return jax.tree.map(lambda *rows: np.concatenate(rows), *batches)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_micro_batches_and_devices_change_nothing(accumulate):
    """A vmap with a name stands for pmap."""
    _, start, zeros, step, batches = begun()
    many = experiment(f"train.accumulation_steps={accumulate}")
    one, totals = step(start, zeros, batches[0])
    parts, sums = jax.jit(many.program())(start, zeros, batches[0])
    close(parts.params, one.params)
    assert sums["loss"].mean() == pytest.approx(totals["loss"].mean(), rel=1e-6)
    if accumulate == 2:
        shares = jax.tree.map(lambda a: a.reshape(2, -1, *a.shape[1:]), batches[0])
        on_two = jax.vmap(many.program(axis="data"), in_axes=(None, None, 0), axis_name="data")
        close(jax.tree.map(lambda a: a[1], jax.jit(on_two)(start, zeros, shares)[0].params), one.params)


def test_several_batches_are_one():
    """With `every`, nothing changes until all are there: then as if they were one batch; and so again."""
    _, start, zeros, _, batches = begun()
    e = experiment(every=2)
    step = jax.jit(e.program())
    state = start.replace(opt_state=e.learner.init(start.params))
    for twice in range(2):
        before = state.params
        state, _ = step(state, zeros, batches[twice])
        close(state.params, before)
        state, _ = step(state, zeros, batches[twice + 1])
        both = stacked(batches[twice : twice + 2])
        close(state.params, e.model.maximise(collecting()(before, both), before))


def test_stepwise_forgets_as_it_says():
    """s <- (1 - rho) s + rho * new; decay 0 keeps nothing, and is plain EM."""
    _, start, zeros, plain, batches = begun()
    for decay in (0.0, 0.7):
        e = experiment(decay=decay)
        step, state, kept = jax.jit(e.program()), start.replace(opt_state=e.learner.init(start.params)), None
        for t, batch in enumerate(batches):
            new = collecting()(state.params, batch)
            rho = 1 if t == 0 else (t + 2) ** -decay
            kept = new if t == 0 else jax.tree.map(lambda old, n, rho=rho: (1 - rho) * old + rho * n, kept, new)
            wanted = e.model.maximise(kept, state.params)
            if not decay:
                close(plain(state.replace(opt_state={}), zeros, batch)[0].params, wanted)
            state, _ = step(state, zeros, batch)
            close(state.params, wanted)


def test_all_of_a_sequence_counts_and_a_row_of_weight_zero_does_not():
    """Also its last token, which a language model predicts and does not read; unless the next batch begins with it."""
    e, start, *_, batches = begun()
    batch = dict(batches[0], weight=np.float32([1, 0, 1, 1]))
    sums = collecting()(start.params, batch)
    mask = batch["mask"][[0, 2, 3]]
    assert sums["emission"]["count"].sum() == pytest.approx(mask.sum(), rel=1e-5)
    assert sums["start"].sum() == pytest.approx(mask.any(1).sum(), rel=1e-5)
    task = e.task.__class__(spec=e.source.spec, carry_state=True)
    np.testing.assert_array_equal(task.sequence(batch).x, batch["tokens"][:, :-1])


def test_it_resumes_to_the_same_bits(tmp_path):
    """In the middle of `every` batches, with sums that are kept."""
    keys = ("train.steps=7", "train.checkpoint_every=2")
    config = launch.write(tmp_path / "c.json", tree(*keys, decay=0.7, every=2) | {"optim": {"ema_decay": 0.5}})
    for name in ("whole", "run"):
        assert launch.main("train", "--config", config, "--workdir", tmp_path / name).code == 0
        if name == "run":
            continue
        shutil.copytree(tmp_path / "whole", tmp_path / "run")
        shutil.rmtree(tmp_path / "run" / "ckpt" / "7")
        (tmp_path / "run" / "status.json").unlink()
    (before, _), (after, step) = last(tmp_path / "whole"), last(tmp_path / "run")
    assert step == 7 and digest(before) == digest(after)
    rows = [launch.rows(tmp_path / name) for name in ("whole", "run")]
    assert [r["loss"] for r in rows[0]] == [r["loss"] for r in rows[1]]
    assert "learning_rate" not in rows[0][0] and rows[0][-1]["loss"] < rows[0][0]["loss"]


def test_a_step_whose_counts_are_not_finite_is_skipped():
    """An impossible sequence: its log-likelihood is -inf, and no parameter changes."""
    _, start, zeros, step, batches = begun()
    never = jax.tree.map(lambda p: p, start.params)
    never["emission"] = {"logits": jnp.full_like(never["emission"]["logits"], -jnp.inf).at[:, -1].set(0)}
    bad, totals = step(start.replace(params=never), zeros, batches[0])
    assert totals["skipped"].total == 1 and int(bad.bad) == 1
    assert digest(bad.params) == digest(never)


def test_tags_are_counted_once():
    """One epoch, in batches of which the last one has empty rows: a loop over the data, wherever it started."""
    changed = {"data": {"name": "held.sources:Tagged"}, "task": {"name": "tag"}, "model": {"name": "hmm"}}
    e = Experiment(resolve(tree(learner="count") | changed))
    state = jax.jit(e.make_state)()
    zeros, step = zero_totals(e.program(), state, e.batches.first), jax.jit(e.program())
    for i in range(e.batches.per_epoch):
        state, _ = step(state, zeros, e.batches[i])
    next_KK, count_KV = np.zeros((3, 3)), np.zeros((3, 5))
    for index in range(e.source.size("train")):
        found = e.source.example("train", index)
        np.add.at(count_KV, (found["tags"], found["tokens"]), 1)
        np.add.at(next_KK, (found["tags"][:-1], found["tags"][1:]), 1)
    normed = lambda n: n / n.sum(1, keepdims=True)
    got = [jax.nn.softmax(a.reshape(3, -1)) for a in (state.params["transition"], state.params["emission"]["logits"])]
    np.testing.assert_allclose(got[0], normed(next_KK), atol=1e-6)
    np.testing.assert_allclose(got[1], normed(count_KV), atol=1e-6)
    never = dict(e.batches.first, tags=np.full_like(e.batches.first["tags"], 3))  # the tags are 0, 1 and 2
    bad, totals = step(state, zeros, never)
    assert totals["skipped"].total == 1 and digest(bad.params) == digest(state.params)
    with pytest.raises(ConfigError, match="count needs data that say every hidden state"):
        experiment(learner="count")


def test_a_comparison_gives_it_no_learning_rate():
    """It would be refused, as nothing reads it; all rates of the grid would be the same run."""
    ours, other = (Entry(0, "x", None, None, resolve(config)) for config in (tree(), launch.tiny()))
    rate = lambda entry: entry.trial(Path("x"), 0.3, 1).config["optim"]["learning_rate"]
    assert rate(ours) == 1e-3 and rate(other) == 0.3
    assert ours.rates([0.1, 0.3]) == [NONE] and other.rates([0.1, 0.3]) == [0.1, 0.3]
    assert (ours.width, other.width) == ("states 3", "8")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"optim": {"learning_rate": 0.1, "schedule": "constant", "clip_norm": 2.0}},
         r"optim.clip_norm=2.0: learner.name='em' has no optimiser: leave out clip_norm, learning_rate, schedule "),
        ({"model": launch.TINY["model"]}, "EM adds up expected counts, which Stack does not have"),
        ({"model": {"name": "hmm", "states": 3, "emission": "neural"}},
         "EM solves for parameters in closed form, and this HMM has a network .* learner.name='gradient'"),
        ({"model": {"name": "hmm", "states": 3, "transition_width": 2}, "learner": {"name": "count"}},
         "Count solves for parameters in closed form"),
        ({"learner": {"name": "em", "decay": 1.5}}, "decay"),
    ],
)  # fmt: skip
def test_what_em_does_not_read_is_refused(change, words):
    with pytest.raises(ConfigError, match=words):
        Experiment(resolve(tree() | change))
