"""N-gram models as models of a run: predictions, sizes, runs that go on, and what they refuse. Laws: test_laws.py."""

import json
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import launch
import numpy as np
import pytest
from built import classes, logits

from seqjax import spec
from seqjax.models.markov import Markov
from seqjax.ops import ngrams, smoothing
from seqjax.search import match
from seqjax.training import history
from seqjax.training.experiment import Experiment, resolve
from seqjax.training.stored import describe
from seqjax.training.trained import Trained
from seqjax.types import CheckpointError, ConfigError, DataError

TEXT = "the cat sat on the mat. the dog sat on the log. " * 10


def tree(folder, *overrides, text=TEXT):
    """The config of a run on a text, which is put into the folder."""
    (folder / "a.txt").write_text(text)
    out = launch.tiny("train.steps=1", "learner=fixed") | {"optim": {}}
    out["data"] = {"name": "text", "path": str(folder / "a.txt"), "length": 8}
    out["model"] = {"name": "markov", "order": 3, "smoothing": "witten_bell"}
    return launch.settled(launch.Schema, launch.config.override(out, list(overrides)))


def train(run, config):
    return launch.main("train", "--config", launch.write(run.parent / "c.json", config), "--workdir", run)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("markov")
    outcome = train(folder / "run", tree(folder))
    assert outcome.code == 0, outcome
    return folder


@pytest.fixture
def copy(done, tmp_path):
    return shutil.copytree(done / "run", tmp_path / "copy")


def losses(run):
    return {row["split"]: row["loss"] for row in launch.rows(run) if "loss" in row}


def test_its_loss_is_that_of_the_table(done):
    """A loop over the windows of validation, each from its start, with a dict of probabilities."""
    e = Experiment(resolve(tree(done)))
    ids = {split: e.source.stream(split)["tokens"].astype(int) for split in ("train", "validation")}
    V, start = e.source.spec.vocabulary, np.arange(len(ids["train"])) == 0
    table, look_up = (
        ngrams.table(ngrams.count(ids["train"], start, V, 3), smoothing.witten_bell()),
        jax.jit(ngrams.look_up),
    )
    nll = []
    for begin in range(0, len(ids["validation"]) - 1, 8):
        window = ids["validation"][begin : begin + 9]
        for t in range(1, len(window)):
            newest = [*window[max(t - 3, 0) : t][::-1], *([V] if t < 3 else []), *[V + 1] * (2 - t)]
            log_p_V = look_up(table, jnp.array(newest, jnp.int32)[:, None, None])[0, 0]
            nll.append(-log_p_V[window[t]])
    assert losses(done / "run")["validation"] == pytest.approx(np.mean(nll), rel=1e-5)


def test_its_size_is_the_number_of_n_grams(done):
    e = Experiment(resolve(tree(done)))
    ids = e.source.stream("train")["tokens"].tolist()
    grams = {tuple(s[i : i + k]) for k in (2, 3, 4) for s in [[-1, *ids]] for i in range(len(s) - k + 1)}
    assert match.parameters(e) == len(grams) + e.source.spec.vocabulary
    assert match.state_bytes(e) == 4 * 3 + 4
    run = json.loads((done / "run" / "run.json").read_text())
    assert run["parameters"] == match.parameters(e) and run["flops_per_step"] == 0


def test_a_run_goes_on_with_the_same_table(done, copy):
    """The table is that of the checkpoint, to the bit."""
    assert train(copy, tree(done, "train.steps=2")).code == 0
    first, second = (Trained.load(run, "latest") for run in (done / "run", copy))
    assert (first.step, second.step) == (1, 2)
    jax.tree.map(np.testing.assert_array_equal, first.params, second.params)
    assert losses(done / "run")["validation"] == losses(copy)["validation"]


def test_another_table_is_refused(tmp_path):
    """Where the text changes, far from the first batch, n-grams are others."""
    run, changed = tmp_path / "run", TEXT[:200] + TEXT[200:].replace("dog", "mog")
    assert train(run, tree(tmp_path)).code == 0
    outcome = train(run, tree(tmp_path, "train.steps=2", text=changed))
    assert outcome.code == 4 and "is of another model" in outcome.err
    assert launch.main("evaluate", "--workdir", run).code == 4


def test_a_text_with_the_same_n_grams_in_other_numbers_is_refused(tmp_path):
    """Its table has the same shapes, and the first batch may be the same."""
    other = TEXT[:240] + "the dog sat on the log. " + TEXT[264:]
    e, changed = (Experiment(resolve(tree(tmp_path, text=text))) for text in (TEXT, other))
    assert describe(e.shapes) == describe(changed.shapes)
    saved, now = history.fingerprint(e), history.fingerprint(changed)
    history.check_data(saved, saved, "")
    with pytest.raises(CheckpointError, match="the text that was counted has changed: restore the data"):
        history.check_data(saved, {**saved, "counted": now["counted"]}, "")


def test_it_evaluates_and_generates_from_its_folder(copy):
    assert launch.main("evaluate", "--workdir", copy, "--split", "test").code == 0
    sampled = launch.main("generate", "--workdir", copy, "--prompt", "the c", "--temperature", "0", "--tokens", "3")
    assert "the cat " in sampled.out


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["learner=gradient"], "learner.name='gradient' changes parameters, .* set learner.name='fixed'"),
        (["optim.ema_decay=0.9"], "optim.ema_decay=0.9 averages parameters, .* set optim.ema_decay=None"),
        (["model.order=-1"], "model.order: got -1, wanted an int of at least 0"),
        (["model.pseudocount=0.1"], "pseudocount=0.1 is for smoothing='additive', got 'witten_bell': remove one"),
        (["model.smoothing=kneser_ney", "model.order=100"], "too little data for the discounts of kneser_ney: choose"),
    ],
)
def test_what_it_refuses(tmp_path, overrides, words):
    with pytest.raises(ConfigError, match=words):
        Experiment(resolve(tree(tmp_path, *overrides))).shapes  # noqa: B018 counted when it is traced


@pytest.mark.parametrize(
    ("inputs", "head", "words"),
    [
        (spec.features(3), logits(3), "n-grams are of tokens, and these data have features"),
        (spec.tokens(3), classes(3), "3 outputs per sequence: choose task.name='next_token'"),
        (spec.tokens(3), logits(5), "which of 3 tokens comes next, and this task asks for 5 outputs per token"),
    ],
)
def test_other_data_and_tasks_are_refused(inputs, head, words):
    with pytest.raises(ValueError, match=words):
        Markov(inputs=inputs, head=head, order=1, documents=lambda: None)


def test_data_without_an_end_are_refused():
    model = {"name": "markov", "order": 1}
    endless = launch.tiny("learner=fixed") | {"optim": {}, "data": {"name": "recall"}, "model": model}
    with pytest.raises(DataError, match="counted over the whole train split, which is endless here: choose data"):
        Experiment(resolve(endless)).shapes  # noqa: B018


@pytest.mark.slow  # counts 3.2 million n-grams, and looks 93,000 characters up: 10 s
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the text is that of Python 3.11")
def test_nineteen_characters_of_the_language_reference(tmp_path):
    """As counted by a program of its own, in plain Python: 1.701 and 1.748 bits per character."""
    config = f"{Path(__file__).parents[2]}/experiments/markov.py"
    how = ("--config.model.smoothing=kneser_ney", "--config.model.order=19")
    assert launch.main("train", "--config", config, "--workdir", tmp_path, *how).code == 0
    trained = Trained.load(tmp_path)
    for split, wanted in (("validation", 1.701), ("test", 1.748)):
        assert trained.evaluate(split)["metrics"]["bits_per_character"] == pytest.approx(wanted, abs=0.005)
