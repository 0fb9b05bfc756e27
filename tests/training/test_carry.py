"""State that goes on from batch to batch: windows of running text are one long sequence, cut only for the gradient."""

import functools
import itertools
import json
import shutil
import types

import jax
import jax.numpy as jnp
import launch
import numpy as np
import optax
import pytest
from built import logits

from seqjax.data import Loader, Streams, text
from seqjax.evaluators.loss import Loss
from seqjax.mixers import attention, gru, lstm
from seqjax.models import Model, stack
from seqjax.tasks.next_token import NextToken
from seqjax.training import carry
from seqjax.training import run as training_run
from seqjax.training import state as state_lib
from seqjax.training.checkpoint import Checkpoints
from seqjax.training.evaluate import Evaluation
from seqjax.training.experiment import Experiment, resolve
from seqjax.training.learners.gradient import Gradient
from seqjax.training.parallel import Parallel
from seqjax.training.step import make_eval_step, make_train_step, zero_totals
from seqjax.training.workdir import Workdir
from seqjax.types import ConfigError

MIXERS = {"gru": gru.Mixer, "hybrid": (functools.partial(attention.Mixer, heads=2, max_length=64), lstm.Mixer)}
B, L, N = 2, 3, 26

pytestmark = pytest.mark.usefixtures("compile_once")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Three documents; 26 tokens of train make two rows of 5 and 4 windows, one of them short; 12 are validation."""
    folder, letters = tmp_path_factory.mktemp("text"), np.random.default_rng(0).choice(list("abcde"), N + 12)
    for name, part in zip("abc", np.split(letters, [7, 22]), strict=True):
        (folder / f"{name}.txt").write_text("".join(part))
    return text.Source(path=f"{folder}/*.txt", length=L, validation=12 / (N + 12), test=0.0)


class Steps:
    """A compiled step over the streams of a split, and the state before it."""

    def __init__(self, source, mixer="gru", rate=0.0, rows=B, **options):
        self.model = stack.Model(
            inputs=source.spec,
            head=logits(source.spec.vocabulary),
            width=8,
            layers=2 if mixer == "hybrid" else 1,
            expansion=0,
            mixer=MIXERS[mixer],
        )
        self.task = NextToken(spec=source.spec, carry_state=True)
        self.batches = Streams(source, "train", Loader(batch_size=rows))
        tx = optax.sgd(rate)
        step = make_train_step(self.model, self.task, Gradient(task=self.task, tx=tx), **options)
        self.state = jax.jit(
            functools.partial(state_lib.init, self.model, self.task, tx, self.batches[0], 0, ema=False)
        )()
        self.zeros, self.step = zero_totals(step, self.state, self.batches[0]), jax.jit(step)

    def run(self, steps, state=None):
        """Yields (state, totals) after each of some steps."""
        state = state or self.state
        for k in steps:
            state, totals = self.step(state, self.zeros, self.batches[k])
            yield state, totals


def whole(model, params, of):
    """(window, row) -> summed nats, from each document of each row read by itself from its first token on."""
    pieces = []  # row, place in it, tokens
    for r in range(of.loader.batch_size):
        windows = lambda key, r=r: [of[k][key][r][of[k]["mask"][r]] for k in range(of.per_epoch)]
        tokens, reset = (np.concatenate([w if k == 0 else w[1:] for k, w in enumerate(windows(key))])
                         for key in ("tokens", "reset"))  # fmt: skip
        edges = [*np.flatnonzero(reset), len(tokens)]
        pieces += [(r, a, tokens[a:b]) for a, b in itertools.pairwise(edges)]
    tokens_PL = np.zeros((len(pieces), max(len(p) for _, _, p in pieces)), np.int32)
    for row, (_, _, piece) in zip(tokens_PL, pieces, strict=True):
        row[: len(piece)] = piece
    logits_PLV, _ = jax.jit(model.apply)({"params": params}, tokens_PL)  # what stands behind a piece is not seen
    logp_PLV, found = np.asarray(jax.nn.log_softmax(logits_PLV)), {}
    for logp_LV, (r, a, piece) in zip(logp_PLV, pieces, strict=True):
        for i in range(len(piece) - 1):
            found[(a + i) // L, r] = found.get(((a + i) // L, r), 0) - logp_LV[i, piece[i + 1]]
    return found


def close(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **{"rtol": 1e-5, "atol": 1e-6, **tolerance}), a, b)


def test_an_error_inside_a_model_is_not_a_missing_state(source):
    def init_state(rows):
        raise AttributeError("'tuple' object has no attribute 'shpae'")

    with pytest.raises(AttributeError, match="shpae"):
        carry.check(types.SimpleNamespace(init_state=init_state), source, Loader(batch_size=B))
    with pytest.raises(ConfigError, match=r"task\.carry_state needs a model with a state: Model has no state"):
        carry.check(Model(inputs=source.spec, head=logits(5)), source, Loader(batch_size=B))


@pytest.mark.parametrize("mixer", MIXERS)
def test_windows_have_the_losses_of_the_whole_sequence(source, mixer):
    """With rate 0; so again in the second epoch, which begins afresh."""
    steps = Steps(source, mixer)
    wanted, n = whole(steps.model, steps.state.params, steps.batches), steps.batches.per_epoch
    assert n == 5 and steps.batches.longest > 2 * L
    for k, (_, totals) in enumerate(steps.run(range(2 * n))):
        assert float(totals["loss"].total) == pytest.approx(sum(wanted.get((k % n, r), 0) for r in range(B)), rel=1e-5)
        assert float(totals["skipped"].total) == 0


def test_the_gradient_ends_where_the_batch_begins(source):
    """It is that of the batch alone, with the state before it a constant."""
    steps = Steps(source, rate=1.0)
    evaluate = make_eval_step(steps.model, steps.task)

    def loss(params, batch, carry):
        metrics, carry = evaluate(params, batch, carry)
        return metrics["loss"].total / metrics["loss"].weight, carry

    gradient, before = jax.jit(jax.grad(loss, has_aux=True)), steps.state
    for k, (after, _) in enumerate(steps.run(range(3))):
        slope, carry = gradient(before.params, steps.batches[k], before.carry)
        close(after.params, jax.tree.map(jnp.subtract, before.params, slope))
        close(after.carry, carry)
        before = after


def test_micro_batches_carry_the_rows_they_have(source):
    one, parts = (Steps(source, rate=0.5, rows=4, accumulate=n) for n in (1, 2))
    for (a, totals_a), (b, totals_b) in zip(one.run(range(5)), parts.run(range(5)), strict=True):
        close((a.params, a.carry, totals_a), (b.params, b.carry, totals_b))
    assert len(np.unique(np.asarray(a.carry[0]), axis=0)) == 4


def test_a_row_whose_state_is_not_finite_starts_afresh(source):
    """The step changes no parameter, the other rows go on, and the next step counts again."""
    steps = Steps(source, rate=0.5)
    ((before, _),) = steps.run([0])
    poison = jax.tree.map(lambda a: a.at[1, 0].set(np.nan), before.carry)
    ((after, totals),) = steps.run([1], before.replace(carry=poison))
    ((clean, _),) = steps.run([1], before)
    close(after.params, before.params, rtol=0, atol=0)
    assert float(totals["skipped"].total) == 1 and int(after.bad) == 1
    for got, wanted in zip(after.carry, clean.carry, strict=True):
        np.testing.assert_array_equal(got[0], wanted[0])
        assert not np.any(got[1])
    ((_, totals),) = steps.run([2], after)
    assert float(totals["skipped"].total) == 0 and np.isfinite(float(totals["loss"].total))


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_evaluation_has_the_loss_of_the_whole_sequence(source, rows):
    """And does not depend on the evaluation before it."""
    steps = Steps(source, "hybrid")
    loss = Loss(model=steps.model, task=steps.task, source=source, loader=Loader(batch_size=rows), seed=0)
    evaluation = Evaluation([loss], "validation", Parallel().layout(rows, 1), write=None)
    wanted = whole(steps.model, steps.state.params, evaluation.passes[0].batches)
    first, again = evaluation(steps.state.params, 0), evaluation(steps.state.params, 0)
    assert first == again and evaluation.passes[0]._step._cache_size() == 1
    assert first["loss"] == pytest.approx(sum(wanted.values()) / 11, rel=1e-5)


def config(source, path):
    tree = launch.tiny(
        "task.carry_state=true", "model.dropout=0.2", f"loader.batch_size={B}", "train.accumulation_steps=2"
    )
    tree["data"] = {"name": "text", "path": source.path, "length": L, "validation": 12 / (N + 12), "test": 0.0}
    tree["train"] |= {"steps": 8, "checkpoint_every": 2, "eval_every": 4, "keep": 9}
    return launch.write(path, tree)


def test_a_run_that_is_killed_ends_with_the_bits_of_one_that_is_not(source, tmp_path):
    """In the middle of an epoch; and `evaluate` finds what the run found."""
    words, one, two = ("train", "--config", config(source, tmp_path / "c.json")), tmp_path / "one", tmp_path / "two"
    outcome = launch.main(*words, "--workdir", one)
    assert outcome.code == 0 and f"state is carried from batch to batch, {B * 8 * 4} bytes" in outcome.out

    shutil.copytree(one, two)
    (two / "status.json").unlink()
    for step in (8, 6):
        shutil.rmtree(two / "ckpt" / str(step))
    assert launch.main(*words, "--workdir", two).code == 0
    run = json.loads((two / "run.json").read_text())
    assert [start["step"] for start in run["starts"]] == [0, 4] and run["carried_bytes"] == B * 8 * 4
    assert launch.final(two) == launch.final(one) and launch.rows(two) == launch.rows(one)

    assert launch.main("evaluate", "--workdir", two, "--checkpoint", "latest").code == 0
    result = json.loads((two / "results.json").read_text())["validation"]["metrics"]
    (last,) = (row for row in launch.rows(one) if row["split"] == "validation" and row["step"] == 8)
    assert result == {name: last[name] for name in result}


def test_a_rollback_carries_nothing_over_what_it_passes(tmp_path):
    """The second document, whose beginning is passed over, is not read as if it were the first."""
    tree = launch.tiny("loader.batch_size=1", "train.steps=8", "train.checkpoint_every=1", "train.keep_checkpoints=20",
                       "guard.policy=rollback", "guard.max_bad_steps=2", "model.mixer=attention",
                       "model.mixer.heads=1")  # fmt: skip
    tree["data"], tree["task"] = "faulty.sources:TwoDocuments", {"name": "faulty.tasks:Poisoned", "carry_state": True}
    experiment = Experiment(resolve(tree))
    training_run.train(experiment, Workdir(tmp_path), quiet=True)
    checkpoints, abstract = Checkpoints(tmp_path / "ckpt"), experiment.parallel.layout(1, 1).abstract(experiment.shapes)
    counts = [int(checkpoints.restore(abstract, step)[0].carry[0].count_B[0]) for step in (4, 5, 6)]
    assert counts == [16, 4, 8]


def test_the_dry_run_says_what_is_carried(source, tmp_path):
    outcome = launch.main("train", "--config", config(source, tmp_path / "c.json"), "--dry_run")
    assert outcome.code == 0 and f"{B * 8 * 4} bytes, in {B} streams of 5 windows" in outcome.out
