"""A learner that counts takes the place of the gradient: the loop, devices, the guard and checkpoints do not notice."""

import math
import shutil

import jax
import launch
import numpy as np
import pytest

from seqjax.training import history
from seqjax.training.checkpoint import Checkpoints
from seqjax.training.experiment import Experiment, resolve
from seqjax.training.step import zero_totals
from seqjax.training.stored import describe, digest
from seqjax.training.workdir import Workdir
from seqjax.types import ConfigError

STEPS = 6


def tree(*overrides):
    out = launch.tiny("train.steps=6", "train.checkpoint_every=2", "train.eval_every=3", *overrides)
    out["data"], out["model"] = {"name": "held.sources:Held"}, {"name": "held.learners:Bigram"}
    return out | {"learner": {"name": "held.learners:Counting", "smoothing": 0.5}}


def train(folder):
    config = launch.write(folder.parent / "c.json", tree("optim.ema_decay=0.5", "guard.spike=1000"))
    outcome = launch.main("train", "--config", config, "--workdir", folder)
    assert outcome.code == 0, outcome
    return folder


def last(folder):
    """The newest state, and its step."""
    e = Experiment(history.config_of(Workdir(folder)))
    abstract = e.parallel.layout(e.loader.batch_size, 1).abstract(e.shapes)
    state, meta = Checkpoints(folder / "ckpt").restore(abstract)
    return state, meta["step"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train(tmp_path_factory.mktemp("whole") / "run")


def test_it_counts_all_that_the_batches_hold(whole):
    """Against a loop over the tokens; the loss of each step is that of the table before it."""
    e = Experiment(resolve(tree()))
    counts, table = np.zeros((5, 5)), np.zeros((5, 5))
    average = table
    rows = [row for row in launch.rows(whole) if row["split"] == "train"]
    for step, row in enumerate(rows):
        batch, nll = e.batches[step], []
        log_p = table - np.log(np.exp(table).sum(1, keepdims=True))
        for tokens, mask in zip(batch["tokens"], batch["mask"], strict=True):
            for t in range(1, mask.sum()):
                nll.append(-log_p[tokens[t - 1], tokens[t]])
                counts[tokens[t - 1], tokens[t]] += 1
        assert row["loss"] == pytest.approx(np.mean(nll), rel=1e-5) and row["skipped_steps"] == 0
        table = np.log((counts + 0.5) / (counts + 0.5).sum(1, keepdims=True))
        average = 0.5 * average + 0.5 * table
    assert len(rows) == STEPS
    state, step = last(whole)
    assert step == STEPS
    np.testing.assert_array_equal(state.opt_state["counts"]["table"], counts)
    np.testing.assert_allclose(state.params["table"], table, rtol=1e-5)
    np.testing.assert_allclose(state.ema["table"], average, rtol=1e-5)


def test_it_resumes_to_the_same_bits(whole, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "ckpt" / "6")
    before = last(folder)[1]
    (folder / "status.json").unlink()
    train(folder)
    assert before == 4 and digest(last(folder)[0]) == digest(last(whole)[0])
    assert [r["loss"] for r in launch.rows(folder)[-2:]] == [r["loss"] for r in launch.rows(whole)[-2:]]


@pytest.mark.parametrize("accumulate", [2, 4])
def test_micro_batches_and_devices_change_nothing(whole, accumulate):
    """A vmap with a name stands for pmap."""
    e, many = (Experiment(resolve(tree(f"train.accumulation_steps={n}"))) for n in (1, accumulate))
    start, batch = jax.jit(e.make_state)(), e.batches.first
    zeros = zero_totals(e.program(), start, batch)
    one, totals = jax.jit(e.program())(start, zeros, batch)
    parts, sums = jax.jit(many.program())(start, zeros, batch)
    shares = jax.tree.map(lambda a: a.reshape(2, -1, *a.shape[1:]), batch)
    on_two = jax.vmap(e.program(axis="data"), in_axes=(None, None, 0), axis_name="data")
    devices = jax.tree.map(lambda a: a[1], jax.jit(on_two)(start, zeros, shares)[0])
    for other in (parts, devices):
        assert digest(other) == digest(one)
    assert sums["loss"].mean() == pytest.approx(totals["loss"].mean(), rel=1e-6)


def test_a_step_whose_counts_are_not_finite_is_skipped():
    e = Experiment(resolve(tree()))
    start, batch = jax.jit(e.make_state)(), e.batches.first
    step = e.program()
    bad, totals = jax.jit(step)(start, zero_totals(step, start, batch), {**batch, "weight": batch["weight"] * math.inf})
    assert totals["skipped"].total == 1 and int(bad.bad) == 1
    assert digest((bad.params, bad.opt_state)) == digest((start.params, start.opt_state))


def test_the_gradient_is_the_default_and_its_arrays_keep_their_names():
    e = Experiment(resolve(launch.tiny()))
    assert e.config["learner"] == {"name": "gradient"}
    names = describe(e.shapes)
    assert ".params['head']['kernel']" in names and ".opt_state[1][0].mu['head']['kernel']" in names
    with pytest.raises(ConfigError, match=r"learner.name: no 'gradent' in .* Did you mean 'gradient'"):
        resolve(launch.tiny("learner=gradent"))
