"""Several steps in one program are the same steps."""

import json

import jax
import launch
import numpy as np
import pytest

from seqjax import verify
from seqjax.data import Batches, Loader, copy
from seqjax.training.experiment import resolve
from seqjax.types import ConfigError

STEPS, LOG = 12, 4
EVERY = (f"train.steps={STEPS}", f"train.log_every={LOG}", "train.eval_every=8", "train.checkpoint_every=4")


def run(folder, *overrides):
    """Trains with dropout, and gives the rows and the arrays that it ends with."""
    config = launch.write(folder.parent / "c.json", launch.tiny(*EVERY, "model.dropout=0.2", "optim.schedule=constant"))
    outcome = launch.main("train", "--config", config, "--workdir", folder, *(f"--config.train.{o}" for o in overrides))
    assert outcome.code == 0, outcome
    return launch.rows(folder), verify.last(folder)[0].params


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    return run(tmp_path_factory.mktemp("apart") / "run")


def check_same(found, wanted):
    for row, other in zip(found[0], wanted[0], strict=True):
        assert row.pop("split") == other["split"]
        assert row == pytest.approx({k: v for k, v in other.items() if k != "split"}, rel=1e-5)
    for a, b in zip(jax.tree.leaves(found[1]), jax.tree.leaves(wanted[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("k", [pytest.param(2, marks=pytest.mark.slow), 4])
def test_metrics_and_parameters_are_those_of_single_steps(apart, tmp_path, k):
    check_same(run(tmp_path / "run", f"steps_per_call={k}"), apart)


def test_a_run_goes_on_with_another_number_of_steps_per_call(apart, tmp_path):
    """From step 6, where no four steps begin."""
    run(tmp_path / "run", "steps=6", "checkpoint_every=6", "eval_every=none", "log_every=2")
    found = run(tmp_path / "run", "steps_per_call=4")
    starts = json.loads((tmp_path / "run" / "run.json").read_text())["starts"]
    assert [s["step"] for s in starts] == [0, 6]
    check_same((found[0][-3:], found[1]), (apart[0][-3:], apart[1]))


@pytest.mark.parametrize("name", ["steps", "log_every", "eval_every", "checkpoint_every"])
def test_what_happens_now_and_then_happens_between_programs(name):
    fit = dict(steps=8, log_every=4, eval_every=4, checkpoint_every=8, steps_per_call=4)
    resolve(launch.tiny(*(f"train.{k}={v}" for k, v in fit.items())))
    with pytest.raises(ConfigError, match=f"{name}=6 is not a multiple of steps_per_call=4"):
        resolve(launch.tiny(*(f"train.{k}={v}" for k, v in {**fit, name: 6}.items())))


def test_buckets_of_several_lengths_are_refused():
    with pytest.raises(ConfigError, match="steps_per_call=2"):
        resolve(launch.tiny("train.steps_per_call=2", "train.log_every=2", "train.checkpoint_every=none",
                            "loader.buckets=[3,8]"))  # fmt: skip


def test_a_stack_is_its_batches():
    batches = Batches(copy.Source(length=3, symbols=4, examples=10), "train", Loader(batch_size=4))
    (first, second) = batches.stacks([range(1, 2), range(2, 4)])
    for stack, steps in ((first, [1]), (second, [2, 3])):
        for key, array in stack.items():
            np.testing.assert_array_equal(array, np.stack([batches[step][key] for step in steps]))


def test_verify_resume_keeps_the_steps_of_a_call():
    tree = resolve(launch.tiny("train.steps=40", "train.steps_per_call=5", "train.log_every=5",
                               "train.checkpoint_every=20"))  # fmt: skip
    train = verify.shortened(tree, 32, 2)["train"]
    assert (train["steps"], train["log_every"], train["steps_per_call"]) == (30, 10, 5)
