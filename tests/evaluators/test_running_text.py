"""Evaluators of running text, each beside a loop over the text."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from built import logits

from seqjax.data import Loader, text
from seqjax.evaluators.dynamic import Dynamic
from seqjax.evaluators.full_context import FullContext
from seqjax.evaluators.neural_cache import NeuralCache
from seqjax.mixers import attention, gru
from seqjax.models import stack
from seqjax.tasks.next_token import NextToken
from seqjax.training.parallel import Parallel

LENGTH = 5
MIXERS = {"gru": gru.Mixer, "attention": functools.partial(attention.Mixer, heads=2, max_length=20)}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Two documents: 40 characters of train, 21 of validation, of which the second document has 14."""
    folder, letters = tmp_path_factory.mktemp("text"), np.random.default_rng(0).choice(list("abcde"), 61)
    for name, part in zip("ab", np.split(letters, [47]), strict=True):
        (folder / f"{name}.txt").write_text("".join(part))
    return text.Source(path=f"{folder}/*.txt", length=LENGTH, validation=21 / 61, test=0.0)


@pytest.fixture(scope="module")
def made(source):
    """mixer -> a model with random parameters."""

    @functools.cache
    def make(mixer="gru"):
        model = stack.Model(inputs=source.spec, head=logits(5), width=8, layers=1, expansion=0, mixer=MIXERS[mixer])
        return model, jax.jit(model.init)(jax.random.key(0), np.zeros((1, 2), np.int32))["params"]

    return make


def report(kind, source, model, params, **options):
    """What an evaluator reports on validation."""
    one = kind(
        model=model, task=NextToken(spec=source.spec), source=source, loader=Loader(batch_size=2), seed=0, **options
    )
    one = one.over("validation", Parallel().layout(2, 1))
    return one(params, 0, on_batch=lambda done: None, give_up=lambda: False, write=None)


@functools.partial(jax.jit, static_argnums=0)
def padded_log_p(model, params, tokens_1L, mask_1L, reset_1L):
    flags = dict(mask_BL=mask_1L, reset_BL=reset_1L, mutable=["features"])
    (out_1LV, _), sown = model.apply({"params": params}, tokens_1L, **flags)
    return jax.nn.log_softmax(out_1LV)[0], jax.tree.leaves(sown)[0][0]


def log_p(model, params, tokens_L, reset_L):
    """log p (L, V) of what follows each token, and what the head reads: one pass over all of it."""
    pad = lambda a_L: np.pad(a_L, (0, 20 - len(a_L)))[None]
    found = padded_log_p(model, params, pad(tokens_L), pad(np.ones_like(reset_L)), pad(reset_L))
    return [np.asarray(a)[: len(tokens_L)] for a in found]


def stream(source, split="validation"):
    found = source.stream(split)
    return found["tokens"].astype(np.int32), found["reset"]


@pytest.mark.parametrize("stride", [None, 2])
def test_a_recurrence_reads_the_text_from_its_first_token(source, made, stride):
    model, params = made()
    found = report(FullContext, source, model, params, stride=stride)
    tokens, reset = stream(source)
    log_p_LV, _ = log_p(model, params, tokens[:-1], reset[:-1])
    nll = [-log_p_LV[t - 1, tokens[t]] for t in range(1, len(tokens)) if not reset[t]]
    assert len(nll) == 19
    assert found["full_context_loss"] == pytest.approx(np.mean(nll), rel=1e-5)
    assert found["full_context_bits_per_character"] == pytest.approx(np.mean(nll) / np.log(2), rel=1e-5)
    assert "full_context_accuracy" not in found


def test_attention_reads_windows_that_overlap(source, made):
    """Of 5 predictions, of which the last 2 count: each token is predicted from 4 or 5 tokens."""
    model, params = made("attention")
    found = report(FullContext, source, model, params, stride=2)
    (tokens, reset), nll = stream(source), []
    for t in range(1, len(tokens)):
        end = (t - 1) // 2 * 2 + 2  # the last token that this window predicts
        begin = max(end - LENGTH, 0)
        log_p_LV, _ = log_p(model, params, tokens[begin:t], reset[begin:t])
        nll += [] if reset[t] else [-log_p_LV[-1, tokens[t]]]
    assert found["full_context_loss"] == pytest.approx(np.mean(nll), rel=1e-5)


@pytest.mark.parametrize("rule", ["sgd", "rms"])
def test_dynamic_evaluation_is_a_loop_of_steps(source, made, rule):
    rate, decay, epsilon = 0.5, 0.1, 1e-3
    options = dict(rule=rule, learning_rate=rate, decay=decay, epsilon=epsilon, statistics=3)
    model, params = made()
    before = jax.tree.map(np.array, params)
    found = report(Dynamic, source, model, params, **options)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def gradient(params, tokens, reset, state):
        out, state = model.apply({"params": params}, tokens[None, :-1], state, reset_BL=reset[None, :-1])
        log_p_L = jnp.take_along_axis(jax.nn.log_softmax(out)[0], tokens[1:, None], axis=1)[:, 0]
        log_p_L = jnp.where(reset[1:], 0, log_p_L)
        return -log_p_L.sum() / jnp.maximum((~reset[1:]).sum(), 1), (log_p_L, state)

    def windows(split):
        tokens, reset = stream(source, split)
        for begin in range(0, len(tokens) - 1, LENGTH):
            yield tokens[begin : begin + LENGTH + 1], reset[begin : begin + LENGTH + 1]

    squares, state = [], model.init_state(1)
    for window in list(windows("train"))[:3]:
        (_, (_, state)), slope = gradient(params, *window, state)
        squares.append(jax.tree.map(jnp.square, slope))
    scale = jax.tree.map(lambda *a: np.sqrt(sum(a) / 3), *squares)
    mean = np.mean(np.concatenate([s.ravel() for s in jax.tree.leaves(scale)]))
    now, state, total = params, model.init_state(1), 0
    for window in windows("validation"):
        (_, (log_p_L, state)), slope = gradient(now, *window, state)
        total -= log_p_L.sum()
        if rule == "sgd":
            now = jax.tree.map(lambda p, p_0, g: p - rate * g + decay * (p_0 - p), now, params, slope)
        else:
            step = lambda p, p_0, g, s: p - rate * g / (s + epsilon) + np.minimum(1, decay * s / mean) * (p_0 - p)
            now = jax.tree.map(step, now, params, slope, scale)
    assert found["dynamic_loss"] == pytest.approx(total / 19, rel=1e-4)
    assert found["dynamic_loss"] != pytest.approx(
        report(FullContext, source, model, params)["full_context_loss"], rel=1e-3
    )
    jax.tree.map(np.testing.assert_array_equal, params, before)
    assert not Dynamic.metrics  # no checkpoint is chosen by it


@pytest.mark.parametrize("size", [4, 100])
def test_the_cache_is_a_loop_over_what_was_read(source, made, size):
    theta, weight = 0.7, 0.3
    model, params = made()
    found = report(NeuralCache, source, model, params, size=size, theta=theta, weight=weight)
    tokens, reset = stream(source)
    log_p_LV, h_LD = log_p(model, params, tokens[:-1], reset[:-1])
    kept, nll = [], []
    for t in range(1, len(tokens)):
        if reset[t]:
            continue
        p, cache = np.exp(log_p_LV[t - 1, tokens[t]]), kept[-size:]
        if cache:
            similar = np.exp([theta * h_LD[t - 1] @ h for h, _ in cache])
            same = np.array([token == tokens[t] for _, token in cache])
            p = (1 - weight) * p + weight * similar[same].sum() / similar.sum()
        nll.append(-np.log(p))
        kept.append((h_LD[t - 1], tokens[t]))
    assert found["neural_cache_loss"] == pytest.approx(np.mean(nll), rel=1e-4)


def test_a_metric_that_is_not_reported_chooses_no_checkpoint(source, made):
    task = NextToken(spec=source.spec, monitor="full_context_perplexity")
    with pytest.raises(ValueError, match="the task reports no 'perplexity' for these data"):
        FullContext(model=made()[0], task=task, source=source, loader=Loader(), seed=0)
