"""What the laws do not say about encoder and decoder: how they are built, trained and asked, and what they refuse."""

import functools
import hashlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import launch
import numpy as np
import pytest
from built import logits
from gradients import init, run

from seqjax import spec
from seqjax.mixers.attention import Attention
from seqjax.mixers.cross_attention import CrossAttention
from seqjax.mixers.gru import GRU
from seqjax.mixers.rnn import Elman
from seqjax.models.seq2seq import Seq2Seq
from seqjax.models.stack import Stack
from seqjax.training import history
from seqjax.training.experiment import Experiment, resolve

pytestmark = pytest.mark.usefixtures("compile_once")

SPEC = spec.tokens(7, source=(5, 4))
HEADS2 = functools.partial(Attention, heads=2)
SOURCE_BS, MASK_BS = np.array([[1, 2, 3, 4], [4, 0, 9, 9]], np.int32), np.array([[1, 1, 1, 1], [1, 1, 0, 0]], bool)
TOKENS_BL = np.array([[1, 2, 3], [6, 5, 4]], np.int32)
SECOND = dict(source_BS=SOURCE_BS, source_mask_BS=MASK_BS)


def seq2seq(**options):
    return Seq2Seq(**{"inputs": SPEC, "head": logits(7), "width": 8, "mixer": GRU, "layers": 1, **options})


@functools.cache
def made(**options):
    model = seq2seq(**options)
    return model, init(model, TOKENS_BL, **SECOND)


def test_a_layer_is_a_mixer_a_look_at_the_memory_and_an_mlp():
    """From the parts, each called by itself."""
    model, params = made(encoder=Elman, encoder_layers=1, norm="rms")
    got, state = run(model, params, TOKENS_BL, **SECOND)
    assert got.dtype == jnp.float32 and state is None
    p = params["params"]
    dense = lambda q, x: x @ q["kernel"] + q["bias"]
    rms = lambda q, x: x / jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6) * q["scale"][None, None]
    mlp = lambda q, x: dense(q["down"], jax.nn.gelu(dense(q["up"], x)))

    def block(q, x, mixer):
        x = x + mixer(rms(q["norm_mixer"], x))
        return x + mlp(q["mlp"], rms(q["norm_mlp"], x)) if "mlp" in q else x

    @jax.jit
    def by_parts(p):
        of = lambda kind, q: lambda x, *state, **flags: kind(width=8).apply({"params": q["mixer"]}, x, *state, **flags)
        first, own, cross = p["encoder_blocks_0"], p["blocks_0"], p["blocks_1"]
        encode = lambda x: of(Elman, first)(x, mask_BL=MASK_BS)[0]
        memory = block(first, p["source_embedding"]["embedding"][jnp.where(MASK_BS, SOURCE_BS, 0)], encode)
        memory = rms(p["norm_memory"], memory)
        read = CrossAttention(width=8).apply({"params": cross["mixer"]}, memory, MASK_BS, method="prefill")
        x = block(own, p["embedding"]["embedding"][TOKENS_BL], lambda x: of(GRU, own)(x)[0])
        x = block(cross, x, lambda x: of(CrossAttention, cross)(x, read)[0])
        return dense(p["head"], rms(p["norm_out"], x))

    with jax.numpy_rank_promotion("allow"):
        wanted = by_parts(p)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)
    assert "mlp" not in p["blocks_0"] and "mlp" in p["blocks_1"]


def test_encoder_and_decoder_cycle_through_their_mixers():
    model, params = made(layers=3, mixer=(GRU, HEADS2), encoder=(Elman, GRU), encoder_layers=3, tie_embeddings=True)
    state = run(model, params, SOURCE_BS, MASK_BS, method="prefill")
    kinds = [type(s).__name__ for s in state]
    assert kinds == ["ndarray", "Memory", "KV", "Memory", "ndarray", "Memory"]
    assert [params["params"][f"encoder_blocks_{i}"]["mixer"]["recurrent"].shape for i in range(3)] == [
        (8, 8),
        (8, 24),
        (8, 8),
    ]
    assert "head" not in params["params"]


def test_a_mixer_that_reads_the_memory_itself_needs_no_other():
    model, params = made(mixer=CrossAttention, cross_attention=None)
    assert [type(s).__name__ for s in run(model, params, SOURCE_BS, MASK_BS, method="prefill")] == ["Memory"]


def test_dropout_is_drawn_in_the_encoder_too():
    model, params = made(dropout=0.5, encoder_layers=1)
    call = lambda **options: run(model, params, SOURCE_BS, MASK_BS, method="encode", **options)
    drop = lambda seed: call(deterministic=False, rngs={"dropout": jax.random.key(seed)})
    np.testing.assert_array_equal(call(), call())
    assert np.any(drop(1) != drop(2)) and np.any(drop(1) != call())


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda: seq2seq(cross_attention=None),
            "neither model.mixer nor model.cross_attention reads the memory, wanted one of them",
        ),
        (
            lambda: seq2seq(mixer=(GRU, CrossAttention), layers=2),
            "both CrossAttention in model.mixer and model.cross_attention read the memory",
        ),
        (lambda: seq2seq(cross_attention=GRU), "GRU in model.cross_attention does not read a memory: choose"),
        (lambda: seq2seq(encoder=CrossAttention), "CrossAttention reads a memory, and an encoder has none"),
        (lambda: seq2seq(encoder=()), "model.encoder is an empty list"),
        (lambda: seq2seq(mixer=()), "model.mixer is an empty list"),
        (lambda: seq2seq(inputs=spec.tokens(7)), "the examples of this data have none: choose a model without an"),
        (
            lambda: seq2seq(cross_attention=functools.partial(CrossAttention, heads=3)),
            "heads=3 does not divide model.width=8",
        ),
        (lambda: Stack(inputs=SPEC, head=logits(7), mixer=GRU), "which this model does not read: choose a model with"),
    ],
)
def test_what_is_refused_when_it_is_built(build, words):
    with pytest.raises(ValueError, match=words):
        build()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            dict(source_BS=SOURCE_BS[..., None]),
            r"source: got int32\[2, 4, 1\], the embedding wants \[B, L\] integers",
        ),
        (dict(source_BS=SOURCE_BS.astype("float32")), r"source: got float32\[2, 4\]"),
        (
            dict(source_BS=SOURCE_BS, source_mask_BS=MASK_BS[:, 1:]),
            r"source_mask_BS is bool\[2, 3\], wanted",
        ),
        (dict(source_BS=SOURCE_BS[:1]), r"\[1, 4, 4, 2\].*wants the state Memory with 2 rows"),
        (dict(), "got neither source_BS nor a state"),
        (dict(source_BS=SOURCE_BS, state=(None, None)), "got source_BS and a state"),
        (dict(state=(jnp.zeros((2, 8)),)), "wants a tuple of 2 states, one per block: make it with prefill"),
    ],
)
def test_what_is_refused_when_it_is_called(options, words):
    model, params = made()
    with pytest.raises(ValueError, match=words):
        model.apply(params, TOKENS_BL, **options)


# The way of a user.


def config(tmp_path, *overrides, **sections):
    return launch.write(tmp_path / "config.json", launch.tiny(*overrides) | launch.PAIRS | sections)


def test_it_learns_resumes_and_answers(tmp_path):
    file, run = (
        config(tmp_path, "train.steps=200", "optim.learning_rate=0.02", "loader.batch_size=32"),
        tmp_path / "run",
    )
    assert launch.main("train", "--config", file, "--workdir", run).code == 0
    assert launch.rows(run)[-1]["exact_match"] > 0.9
    done = launch.main("evaluate", "--workdir", run, "--split", "test")
    assert done.code == 0 and "exact_match" in done.out
    done = launch.main("generate", "--workdir", run, "--samples", 5, "--temperature", 0)
    assert done.code == 0, done.err
    answers = [[line.split() for line in block.splitlines()] for block in done.out.strip().split("\n\n")]
    assert len(answers) == 5
    for source, wanted, generated, score in answers:
        assert (source[0], wanted[0], generated[0], score[:2]) == ("source", "wanted", "generated", ["log", "p"])
        assert wanted[1:] == [*source[:0:-1], "4"] and float(score[2]) <= 0
        assert generated[-1] == "4" or len(generated) == len(wanted)  # it ends itself, or where the data end
    assert sum(wanted[1:] == generated[1:] for _, wanted, generated, _ in answers) >= 4
    assert done.out == launch.main("generate", "--workdir", run, "--samples", 5, "--temperature", 0).out


def test_an_answer_of_which_every_token_counts_begins_behind_the_first(tmp_path, monkeypatch):
    code = "from seqjax.data.reverse import Reverse\nclass Source(Reverse):\n  def draw(self, *how):\n"
    code += "    example = super().draw(*how)\n    return {**example, 'scored': example['tokens'] >= 0}\n"
    (tmp_path / "all_scored.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    data = {**launch.PAIRS["data"], "name": "all_scored:Source"}
    assert launch.main("train", "--config", config(tmp_path, data=data), "--workdir", tmp_path / "run").code == 0
    done = launch.main("generate", "--workdir", tmp_path / "run", "--samples", 2)
    assert done.code == 0, done.err
    assert all(len(answer["wanted"].split()) == 4 for answer in json.loads((tmp_path / "run/samples.json").read_text()))


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        (dict(model=dict(name="stack", mixer="gru")), "model: the examples of this data have a source"),
        (dict(data=dict(name="copy")), "model: this model reads a source, but the examples of this data have none"),
        (
            dict(model=dict(name="seq2seq", mixer="gru", cross_attention=None)),
            "model: neither model.mixer nor model.cross_attention",
        ),
        (dict(task=dict(name="next_token", carry_state=True)), "independent of each other"),
    ],
)
def test_a_config_that_does_not_fit_is_a_sentence(tmp_path, sections, words):
    done = launch.main("train", "--config", config(tmp_path, **sections), "--dry_run")
    assert done.code == 2 and words in done.err and len(done.err.splitlines()) == 1


def test_a_dry_run_shows_a_source(tmp_path):
    done = launch.main("train", "--config", config(tmp_path), "--dry_run")
    assert done.code == 0 and "first source" in done.out and "mask_S" in done.out


def test_the_fingerprint_of_data_is_that_of_older_checkpoints(tmp_path):
    """In which the mask of a source had another name."""
    e = Experiment(resolve(json.loads(Path(config(tmp_path)).read_text())))
    batch, digest = dict(e.batches[0]), hashlib.sha256()
    batch["source_mask"] = batch.pop("mask_S")
    for name in sorted(batch):
        digest.update(f"{name} {batch[name].dtype} {batch[name].shape}".encode() + batch[name].tobytes())
    assert history.fingerprint(e)["first"] == digest.hexdigest()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--prompt", "a"), "leave --prompt out"),
        (("--samples", 0), "samples=0"),
        (("--samples", 9), "has 8 examples, asked for 9"),
    ],
)
def test_what_cannot_be_answered_is_a_sentence(copied, args, words):
    done = launch.main("generate", "--workdir", copied("pairs"), *args)
    assert done.code == 2 and words in done.err and len(done.err.splitlines()) == 1
