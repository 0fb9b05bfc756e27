"""The evaluator that decodes answers, and compares them with the references."""

import functools
import json

import jax
import jax.numpy as jnp
import launch
import numpy as np
import pytest
from built import logits

from seqjax.data import Loader, reverse
from seqjax.decoding.greedy import Greedy
from seqjax.decoding.sample import Sample
from seqjax.evaluators.generate import Generate
from seqjax.models import Model
from seqjax.tasks.next_token import NextToken
from seqjax.training.evaluate import Evaluation
from seqjax.training.experiment import Experiment, resolve
from seqjax.training.parallel import Parallel
from seqjax.types import ConfigError

LENGTH, SYMBOLS = 4, 3
END, V = SYMBOLS + 1, SYMBOLS + 2


class Answerer(Model):
    """Writes the source as it stands: `late` tokens more or fewer than it should, and then it ends."""

    late: int = 0
    side = ("source_BS", "source_mask_BS")

    def prefill(self, source_BS, mask_BS):
        return jnp.zeros(len(source_BS), int), jnp.where(mask_BS, source_BS, -1), mask_BS.sum(axis=1)

    def __call__(self, x_BL, state, *, mask_BL=None, reset_BL=None, deterministic=True):
        logits_BV, state = self.step(x_BL[:, 0], state)
        return jnp.repeat(logits_BV[:, None], x_BL.shape[1], axis=1), state

    def step(self, token_B, state, **flags):
        place_B, source_BS, length_B = state
        token_B = jnp.take_along_axis(source_BS, jnp.clip(place_B, 0, length_B - 1)[:, None], axis=1)[:, 0]
        token_B = jnp.where(place_B >= length_B + self.late, END, token_B)
        return 3.0 * jax.nn.one_hot(token_B, V), (place_B + 1, source_BS, length_B)


def evaluation(late, written=None, source=None, **options):
    source = source or reverse.Source(length=LENGTH, min_length=1, symbols=SYMBOLS, examples=10, seed=5)
    task = NextToken(spec=source.spec)
    one = Generate(
        model=Answerer(inputs=source.spec, head=logits(V), late=late),
        task=task,
        source=source,
        loader=Loader(batch_size=4),
        seed=0,
        **options,
    )
    over = one.over("validation", Parallel().layout(4, 1))
    return lambda step=0: over(
        {}, step, on_batch=lambda done: None, give_up=lambda: False, write=lambda name, rows: written.append(rows)
    )


class Palindromes(reverse.Source):
    """Sources that read the same from both ends, of two and of four symbols."""

    def draw(self, random, split):
        half = random.integers(0, SYMBOLS, random.integers(1, 3)).astype(np.int32)
        source_S = np.concatenate([half, half[::-1]])
        tokens_L = np.concatenate([[SYMBOLS], source_S[::-1], [END]]).astype(np.int32)
        return {"source": source_S, "tokens": tokens_L, "scored": np.arange(len(tokens_L)) > 0}


@pytest.mark.parametrize("late", [-1, 0, 1])
def test_an_answer_is_judged_by_where_it_ends(late):
    """The reference is a palindrome, so that it is what the model writes; but it may end early or late."""
    source, written = Palindromes(length=LENGTH, symbols=SYMBOLS, examples=10), []
    result = evaluation(
        late, written, source=source, examples=7, samples=3, decoder=functools.partial(Greedy, max_length=9)
    )()
    lengths = [len(source.example("validation", i)["source"]) for i in range(7)]
    assert set(lengths) == {2, 4}
    assert result["generate_exact_match"] == (late == 0)
    assert result["generate_token_error_rate"] == pytest.approx(7 * abs(late) / sum(lengths))
    assert result["generate_length_ratio"] == pytest.approx((sum(lengths) + 7 * late) / sum(lengths))
    for i, (row, length) in enumerate(zip(*written, lengths[:3], strict=True)):
        example = source.example("validation", i)
        assert row["source"].split() == [str(t) for t in example["source"]]
        assert row["wanted"].split() == [str(t) for t in example["tokens"][1:]]
        assert len(row["text"].split()) == length + 1 + late and row["text"].split()[-1] == str(END)
        log_p = 3 - np.log(np.exp(3) + V - 1)
        assert row["score"] == pytest.approx(log_p * (length + 1 + late), rel=1e-4) and row["max_length"] == 9


def test_draws_are_of_seed_and_step_alone():
    draw = functools.partial(Sample, temperature=9.0)
    written, again = [], []
    one, other = evaluation(0, written, decoder=draw, examples=10), evaluation(0, again, decoder=draw, examples=10)
    for step in (1, 2, 1):
        one(step)
    other(1)
    assert written[0] == written[2] == again[0]
    assert [row["text"] for row in written[0]] != [row["text"] for row in written[1]]


TINY = launch.tiny("data.length=3", "data.symbols=3", "data.examples=8", "loader.batch_size=4")
PAIRS = dict(
    data=dict(name="reverse", length=3, symbols=3, examples=8),
    model=dict(name="seq2seq", width=8, layers=1, encoder_layers=1, expansion=0, mixer="gru", encoder="gru"),
)


@pytest.mark.parametrize(
    ("sections", "evaluators", "words"),
    [
        (PAIRS, "generat", "evaluators.name: no 'generat' in seqjax.evaluators. Did you mean 'generate'?"),
        (PAIRS, {"name": "generate", "decoder": "beem"}, "evaluators.decoder.name: no 'beem' in seqjax.decoding"),
        (PAIRS, ["loss"], "evaluators: 'loss' would run twice"),
        (PAIRS, {"name": "generate"}, "'validation' has 8 examples, asked for 128: ask for fewer"),
        ({}, {"name": "generate", "examples": 4}, "evaluators: generate: the data have no end token"),
        (
            {
                "data": {"name": "digits"},
                "task": {"name": "classification"},
                "model": {"name": "stack", "mixer": "gru"},
            },
            "generate",
            "evaluators: generate: Classification predicts no next token",
        ),
        (
            PAIRS | {"task": {"name": "next_token", "monitor": "generated_exact_match"}},
            {"name": "generate", "examples": 4},
            "task: monitor='generated_exact_match' is not a metric. Did you mean 'generate_exact_match'?",
        ),
    ],
    ids=lambda value: str(value)[-20:],
)
def test_what_does_not_fit_is_a_sentence(tmp_path, sections, evaluators, words):
    file = launch.write(tmp_path / "config.json", TINY | sections | {"evaluators": evaluators})
    done = launch.main("train", "--config", file, "--dry_run")
    assert done.code == 2 and words in done.err, done


def test_answers_in_pieces_and_small_caches_are_refused_before_the_first_step():
    queries = dict(data=dict(name="recall", pairs=2, examples=8), evaluators=dict(name="generate", examples=4))
    queries["evaluators"]["decoder"] = dict(name="greedy", max_length=3)
    small = PAIRS | dict(evaluators=dict(name="generate", examples=4, decoder=dict(name="greedy", max_length=30)))
    small["model"] = small["model"] | dict(mixer=dict(name="attention", max_length=20, heads=2))
    for sections, words in ((queries, "their answers are not one piece"), (small, "need 30 places")):
        e = Experiment(resolve(TINY | sections))
        with pytest.raises(ConfigError, match=f"evaluators: generate: .*{words}"):
            Evaluation(e.evaluators, "validation", Parallel().layout(4, 1), write=None)


def test_a_run_is_chosen_by_its_answers_and_resumes_to_the_same_bits(tmp_path):
    """The best checkpoint is that of `task.monitor`, and `seqjax evaluate` repeats what training found."""
    evaluators = [dict(name="generate", examples=8, decoder=dict(name="sample", temperature=0.5))]
    sections = PAIRS | dict(task=dict(name="next_token", monitor="generate_token_error_rate"), evaluators=evaluators)
    file = launch.write(tmp_path / "config.json", TINY | sections)
    train = lambda name, *more: launch.main("train", "--config", file, "--workdir", tmp_path / name, *more)
    often = dict(eval_every=5, checkpoint_every=5, log_every=5)
    words = ["--config.optim.schedule=constant", *(f"--config.train.{key}={n}" for key, n in often.items())]
    for name, steps in (("whole", 20), ("parts", 10), ("parts", 20)):
        done = train(name, *words, f"--config.train.steps={steps}")
        assert done.code == 0, done.err
    whole, parts = (launch.rows(tmp_path / name) for name in ("whole", "parts"))
    assert whole == parts
    assert (tmp_path / "whole/samples.json").read_bytes() == (tmp_path / "parts/samples.json").read_bytes()
    found = [row for row in whole if row["split"] == "validation"]
    assert {"loss", "generate_exact_match", "generate_length_ratio"} <= found[0].keys()
    best = min(found, key=lambda row: row["generate_token_error_rate"])
    done = launch.main("evaluate", "--workdir", tmp_path / "whole")
    assert done.code == 0 and f"step {best['step']}" in done.out
    metrics = json.loads((tmp_path / "whole/results.json").read_text())["validation"]["metrics"]
    assert metrics == pytest.approx({k: v for k, v in best.items() if k not in ("step", "split")}, rel=1e-6)
    assert launch.main("report", tmp_path / "whole").code == 0
    page = (tmp_path / "whole/report.html").read_text()
    assert "log-probability -" in page and "generate" in page
