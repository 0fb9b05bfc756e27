"""Runs that begin with the parameters of another one."""

import json
import shutil

import jax
import launch
import numpy as np
import pytest

from seqjax.training.checkpoint import Checkpoints
from seqjax.training.experiment import Experiment, resolve
from seqjax.training.run import Run
from seqjax.training.trained import Trained
from seqjax.training.workdir import Workdir


def train(folder, *overrides, code=0, more=()):
    tree = launch.write(folder.parent / f"{folder.name}.json", launch.tiny(*overrides))
    outcome = launch.main("train", "--config", tree, "--workdir", folder, *more)
    assert outcome.code == code, outcome
    return outcome


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    """A run of four steps, the second of them the best on validation."""
    folder = tmp_path_factory.mktemp("origin") / "run"
    with pytest.MonkeyPatch.context() as patch:
        values = iter([1.0, 2.0])
        evaluate = lambda self, params, step, on_batch, give_up: {"loss": next(values)}
        patch.setattr("seqjax.training.evaluate.Evaluation.__call__", evaluate)
        train(
            folder, "train.eval_every=2", "train.checkpoint_every=1", "train.keep_checkpoints=4", "optim.ema_decay=0.5"
        )
    return folder


def begun(tmp_path, *overrides):
    """The state of a run before its first step."""
    run = Run(Experiment(resolve(launch.tiny(*overrides))), Workdir(tmp_path / "run").lock(), quiet=True)
    try:
        run.start(False, "", {})
        return run.state, run.experiment
    finally:
        run.close()


def forget_init(folder):
    """The folder as it was before there was `init`."""
    tree = json.loads((folder / "config.json").read_text())
    del tree["init"], tree["format"], tree["seal"]
    (folder / "config.json").write_text(json.dumps(tree))


def flat(params):
    return {jax.tree_util.keystr(p, simple=True, separator="/"): a for p, a in jax.tree.leaves_with_path(params)}


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize(("checkpoint", "step"), [(None, 2), ("latest", 4), ("3", 3)])
def test_a_run_begins_with_the_evaluated_parameters_of_another(origin, tmp_path, checkpoint, step):
    words = [f"init.run={origin}", *([f"init.checkpoint={checkpoint}"] if checkpoint else [])]
    state, e = begun(tmp_path, *words)
    wanted = Trained.load(origin, checkpoint or "best")
    assert wanted.step == step and state.ema is None and int(state.step) == 0
    same(state.params, wanted.params)
    same(state.opt_state, e.learner.init(wanted.params))
    (start,) = json.loads((tmp_path / "run" / "run.json").read_text())["starts"]
    assert start["origin"] == {"run": str(origin), "step": step, "fresh": []}


def test_a_moving_average_begins_with_them_too(origin, tmp_path):
    state, _ = begun(tmp_path, f"init.run={origin}", "optim.ema_decay=0.9")
    same(state.params, Trained.load(origin).params)
    same(state.ema, state.params)


def test_fresh_modules_are_as_if_there_were_no_other_run(origin, tmp_path):
    state, e = begun(tmp_path, f"init.run={origin}", "data.symbols=5", "init.fresh=['embedding','head']")
    random, taken = flat(e.make_state().params), flat(Trained.load(origin).params)
    fresh = {name for name in random if name.startswith(("embedding/", "head/"))}
    assert fresh and set(random) - fresh
    for name, array in flat(state.params).items():
        np.testing.assert_array_equal(array, random[name] if name in fresh else taken[name], name)


def test_a_part_of_a_module_is_fresh(origin, tmp_path):
    state, e = begun(tmp_path, f"init.run={origin}", "init.fresh=['blocks_0/mixer']")
    random, taken = flat(e.make_state().params), flat(Trained.load(origin).params)
    for name, array in flat(state.params).items():
        np.testing.assert_array_equal(array, (random if name.startswith("blocks_0/mixer/") else taken)[name], name)


def test_it_goes_on_without_the_other_run(origin, tmp_path):
    """To the same bits; and what it began with may not change any more."""
    other = shutil.copytree(origin, tmp_path / "other")
    begin = (f"init.run={other}", "train.checkpoint_every=2")
    said = train(tmp_path / "whole", *begin).out
    assert f"begins with the parameters of {other} at step 2" in said
    shutil.copytree(tmp_path / "whole", tmp_path / "half")
    shutil.rmtree(other)
    Checkpoints(tmp_path / "half" / "ckpt").forget(3)
    (tmp_path / "half" / "status.json").unlink()
    assert "begins with" not in train(tmp_path / "half", *begin).out
    assert launch.final(tmp_path / "half") == launch.final(tmp_path / "whole")
    assert "init.run was" in train(tmp_path / "half", "train.checkpoint_every=2", "train.steps=6", code=4).err
    starts = json.loads((tmp_path / "half" / "run.json").read_text())["starts"]
    assert [bool(start["origin"]) for start in starts] == [True, False]


def test_a_dry_run_says_it(origin, tmp_path):
    said = train(tmp_path / "run", f"init.run={origin}", "init.fresh=['head']", more=["--dry_run"])
    assert f"begins with the parameters of {origin} at step 2, except head" in said.out


def test_what_the_other_run_computed_otherwise_is_said(origin, tmp_path):
    """It may be wanted: all parameters fit."""
    words = [f"init.run={origin}", "model.mixer.zoneout=0.1", "model.dropout=0.1", "optim.learning_rate=0.5"]
    said = train(tmp_path / "run", *words, more=["--dry_run"]).out
    assert "model.mixer.zoneout was 0.0 there and is 0.1 here" in said and "dropout" not in said and "peak" not in said
    assert "zoneout was 0.0 there" in train(tmp_path / "run", *words, "train.steps=1").out


def test_tokens_that_stand_for_something_else_are_said(tmp_path):
    """A text with as many other characters has the same shapes everywhere."""
    for name, text in {"a": "abcdabdcab", "b": "wxyzwxzywx"}.items():
        (tmp_path / f"{name}.txt").write_text(30 * text)
    text = lambda name: (f'data={{"name": "text", "path": "{tmp_path / name}.txt", "length": 8}}', "train.steps=1")
    train(tmp_path / "other", *text("a"))
    begin = (f"init.run={tmp_path / 'other'}", "init.checkpoint=latest")
    assert "tokens stood for something else there" in train(tmp_path / "b", *text("b"), *begin, more=["--dry_run"]).out
    assert "something else" not in train(tmp_path / "a", *text("a"), *begin, more=["--dry_run"]).out


def test_a_run_is_not_its_own_beginning_and_keeps_what_it_has(origin, tmp_path):
    own = shutil.copytree(origin, tmp_path / "run")
    before = launch.final(own)
    for words in ([f"init.run={own}"], [f"init.run={tmp_path / 'none'}"], [f"init.run={origin}", "model.width=9"]):
        assert train(own, *words, code=2, more=["--restart"]).err.startswith("seqjax: init.run=")
        assert launch.final(own) == before


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["model.width=16"], 2, ["parameters differ", "blocks_0/mixer/bias: saved float32[24], wanted float32[48]"]),
        (["data.symbols=5"], 2, ["3 parameters differ", "init.fresh", "head/bias"]),
        (["model.layers=2"], 2, ["blocks_1/", "saved nothing"]),
        (["model.tie_embeddings=true"], 2, ["head/kernel: saved float32[8, 5], wanted nothing"]),
        (["init.fresh=['haed']"], 2, ["'haed'", "blocks_0, embedding, head, norm_out"]),
        (["init.fresh=['blocks_0','embedding','head','norm_out']"], 2, ["leaves no parameter to take"]),
        (["init.checkpoint=first"], 2, ["init.checkpoint", "'best', 'latest'"]),
        (["init.checkpoint=99"], 4, ["99"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said(origin, tmp_path, words, code, said):
    err = train(tmp_path / "run", f"init.run={origin}", *words, code=code).err
    assert all(part in err for part in said), err
    assert not (tmp_path / "run" / "ckpt").exists()


def test_without_another_run_nothing_is_fresh(tmp_path):
    assert "set init.run" in train(tmp_path / "run", "init.fresh=['head']", code=2).err


@pytest.mark.parametrize("what", ["metadata", "array"])
def test_a_damaged_beginning_is_refused(origin, tmp_path, what):
    other = shutil.copytree(origin, tmp_path / "other")
    files = [f for f in (other / "ckpt_best" / "2").rglob("*") if f.is_file()]
    chosen = [f for f in files if f.name == "_CHECKPOINT_METADATA"] if what == "metadata" else files
    for file in chosen:
        if what == "metadata":
            file.write_text(file.read_text().replace('"step": 2', '"step": 3'))
        elif "/d/" in str(file):
            file.write_bytes(file.read_bytes()[:-9] + b"\0" * 9)
    err = train(tmp_path / "run", f"init.run={other}", code=4).err
    assert str(other / "ckpt_best" / "2") in err


def test_a_run_of_before_there_was_init_is_a_beginning_too(origin, tmp_path):
    other = shutil.copytree(origin, tmp_path / "other")
    forget_init(other)
    state, _ = begun(tmp_path, f"init.run={other}")
    same(state.params, Trained.load(origin).params)


def test_a_finished_run_of_before_there_was_init_is_done(copied):
    run, every = copied("copy"), ("train.eval_every=2", "train.checkpoint_every=2")
    forget_init(run)
    before = launch.final(run)
    train(run, *every)
    assert launch.final(run) == before and len(json.loads((run / "run.json").read_text())["starts"]) == 1
    train(run, *every, "train.steps=6")
    changed = json.loads((run / "run.json").read_text())["starts"][1]["changes"]
    assert changed.keys() == {"train.steps"}
