"""Decoding through `Model.step` is what full forward passes say."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from built import logits

from seqjax import spec
from seqjax.decoding import Sampling, sample
from seqjax.mixers.attention import Attention
from seqjax.mixers.gru import GRU
from seqjax.models.seq2seq import Seq2Seq
from seqjax.models.stack import Stack

pytestmark = pytest.mark.usefixtures("compile_once")

V, GREEDY = 6, Sampling(temperature=0.0)
KEY = jax.random.key(0)
WORDS = dict(inputs=spec.tokens(V), head=logits(V), width=8, expansion=0)


@functools.cache
def trained(name: str):
    """A model with logits far enough apart for an argmax to be safe."""
    attention = functools.partial(Attention, heads=2, max_length=16)
    mixers = {"gru": (GRU,), "attention": (attention,), "hybrid": (attention, GRU)}[name]
    model = Stack(**WORDS, layers=len(mixers), mixer=mixers)
    init = lambda tokens: jax.tree.map(lambda p: p * 3, model.init(jax.random.key(1), tokens)["params"])
    return model, jax.jit(init)(np.zeros((1, 2), "int32"))


@functools.partial(jax.jit, static_argnums=0)
def filtered(sampling, logits):
    return sampling.filter(logits)


@functools.partial(jax.jit, static_argnums=0)
def drawn(sampling, logits):
    return sampling(KEY, logits)


def by_full_passes(model, params, tokens, count, **given):
    """The `count` likeliest tokens, one after the other. Those that are still to come are zeros, which nobody sees."""
    full_pass = jax.jit(lambda tokens: model.apply({"params": params}, tokens, **given)[0])
    first, tokens = tokens.shape[1], np.pad(tokens, ((0, 0), (0, count)))
    for t in range(first, first + count):
        tokens[:, t] = np.argmax(np.asarray(full_pass(tokens))[:, t - 1], axis=-1)
    return tokens[:, first:]


MODELS = pytest.mark.parametrize("name", ["gru", "attention", "hybrid"])


@MODELS
def test_greedy_is_the_argmax_of_full_passes(name):
    model, params = trained(name)
    tokens = np.array([[1, 2, 3], [4, 0, 5]])
    got = sample(model, params, jnp.asarray(tokens), KEY, length=5, sampling=GREEDY)
    np.testing.assert_array_equal(got, by_full_passes(model, params, tokens, 5))


@MODELS
def test_ragged_prompts_are_each_as_alone(name):
    model, params = trained(name)
    prompts = [[1, 2, 3, 4], [5], [2, 0]]
    padded, mask = np.full((3, 4), 99), np.zeros((3, 4), bool)
    for row, (prompt, start) in enumerate(zip(prompts, (0, 2, 1), strict=True)):  # padding on either side
        padded[row, start : start + len(prompt)] = prompt
        mask[row, start : start + len(prompt)] = True
    got = sample(model, params, jnp.asarray(padded), KEY, length=4, sampling=GREEDY, mask_BL=jnp.asarray(mask))
    for row, prompt in enumerate(prompts):
        alone = sample(model, params, jnp.array([prompt]), KEY, length=4, sampling=GREEDY)
        np.testing.assert_array_equal(got[row], alone[0])


def test_the_key_decides():
    model, params = trained("gru")
    draw = lambda seed: np.asarray(sample(model, params, jnp.array([[1]]), jax.random.key(seed), length=20))
    np.testing.assert_array_equal(draw(0), draw(0))
    assert np.any(draw(0) != draw(1))


def test_the_likeliest_alone_is_greedy():
    model, params = trained("gru")
    run = lambda s: sample(model, params, jnp.array([[1], [2]]), KEY, length=8, sampling=s)
    wanted = run(GREEDY)
    np.testing.assert_array_equal(run(Sampling(top_k=1)), wanted)
    np.testing.assert_array_equal(run(Sampling(top_p=1e-6)), wanted)


@pytest.mark.parametrize(("top_k", "top_p"), [(3, 1.0), (None, 0.6), (4, 0.5), (99, 0.999), (None, 1.0)])
def test_filters_against_a_loop(top_k, top_p):
    random = np.random.default_rng(0)
    logits = np.concatenate([random.normal(size=(20, V)), random.integers(0, 3, (20, V))])  # with ties, too
    kept = np.isfinite(filtered(Sampling(top_k=top_k, top_p=top_p), np.float32(logits)))
    for row, got in zip(logits, kept, strict=True):
        likeliest = sorted(range(V), key=lambda token: (-row[token], token))[:top_k]
        p, wanted, total = np.exp(row) / np.exp(row[likeliest]).sum(), set(), 0.0
        for token in likeliest:
            if total >= top_p:
                break
            wanted.add(token)
            total += p[token]
        assert set(np.flatnonzero(got)) == wanted


@pytest.mark.parametrize("whole", [10, 100, 3000])
def test_the_nucleus_is_the_smallest_set_that_reaches_top_p(whole):
    """Probabilities of whole tenths, hundredths, ...: sums of them reach a round `top_p` exactly, and with ties."""
    random, V = np.random.default_rng(whole), 2 * whole // 5
    shares = random.multinomial(whole, random.dirichlet(np.full(V, 0.3)), 20)
    shares[0, :4], shares[0, 4:] = np.array([3, 1, 1, 5]) * whole // 10, 0
    with np.errstate(divide="ignore"):
        logits = np.float32(np.log(shares / whole))
    for tenths in (1, 5, 8, 9):
        kept = np.isfinite(filtered(Sampling(top_p=tenths / 10), logits))
        for row, got in zip(shares, kept, strict=True):
            wanted, total = set(), 0
            for token in sorted(range(len(row)), key=lambda token: (-row[token], token)):
                if 10 * total >= tenths * whole:
                    break
                wanted.add(token)
                total += row[token]
            assert set(np.flatnonzero(got)) == wanted


def test_the_nucleus_of_any_distribution_is_that_of_a_loop_in_float64():
    random = np.random.default_rng(0)
    logits = random.normal(0, random.uniform(0.1, 8, (200, 1)), (200, 50)).astype(np.float32)
    top_p = float(random.uniform(0.05, 0.999))
    kept = np.isfinite(filtered(Sampling(top_p=top_p), logits))
    for row, got in zip(logits.astype(np.float64), kept, strict=True):
        p, wanted, total = np.exp(row) / np.exp(row).sum(), set(), 0.0
        for token in np.argsort(-p):
            if total < top_p:
                wanted.add(token)
                total += p[token]
        assert set(np.flatnonzero(got)) == wanted and total - top_p > 1e-5  # nothing here hangs on rounding


@pytest.mark.parametrize("temperature", [2e-38, 1e-38, 1e-39, 1e-300])
@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_no_temperature_is_too_low(temperature, top_p):
    logits = np.tile(np.float32([[5, 10, 9]]), (50, 1))
    assert set(np.asarray(drawn(Sampling(temperature=temperature, top_p=top_p), logits))) == {1}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_many_equal_tokens_are_drawn_alike_in_half_precision(dtype):
    draws = drawn(Sampling(), jnp.zeros((4000, 1000), dtype))
    assert abs(np.mean(np.asarray(draws) < 500) - 0.5) < 0.05


def test_temperature_sharpens():
    logits = np.log(np.float32([[0.5, 0.3, 0.2]]))
    for temperature in (1.0, 0.5):
        draws = drawn(Sampling(temperature=temperature), np.tile(logits, (20_000, 1)))
        wanted = np.array([0.5, 0.3, 0.2]) ** (1 / temperature)
        share = np.bincount(draws, minlength=3) / 20_000
        np.testing.assert_allclose(share, wanted / wanted.sum(), atol=0.02)


def test_what_cannot_be_continued():
    model, params = trained("attention")
    with pytest.raises(ValueError, match="the prompt is empty"):
        sample(model, params, jnp.zeros((1, 0), jnp.int32), KEY, length=1)
    with pytest.raises(ValueError, match="need 17 places, the attention cache has 16"):
        sample(model, params, jnp.zeros((1, 4), jnp.int32), KEY, length=14)
    assert sample(model, params, jnp.zeros((1, 4), jnp.int32), KEY, length=13).shape == (1, 13)
    with pytest.raises(ValueError, match="length: got 0, wanted at least one new token"):
        sample(model, params, jnp.zeros((1, 4), jnp.int32), KEY, length=0)
    prefix = Stack(**WORDS, mixer=functools.partial(Attention, heads=2, prefix=5), layers=1)
    with pytest.raises(
        ValueError, match="the model reads the first 5 tokens as a whole, the prompt has 4: give a longer one"
    ):
        sample(prefix, params, jnp.zeros((1, 4), jnp.int32), KEY, length=1)
    with pytest.raises(ValueError, match="temperature: got -1"):
        Sampling(temperature=-1)


def test_one_compilation_serves_all_calls():
    model, params = trained("gru")
    before = sample._cache_size()
    for seed in range(3):
        sample(model, params, jnp.array([[1, 2, 3, 4, 5]]), jax.random.key(seed), length=3)
    assert sample._cache_size() == before + 1


@functools.cache
def pair():
    mixers = (functools.partial(Attention, heads=2, max_length=16), GRU)
    model = Seq2Seq(
        inputs=spec.tokens(V, source=(4, 3)),
        head=logits(V),
        width=8,
        layers=2,
        mixer=mixers,
        encoder_layers=1,
        expansion=0,
    )
    source, mask = jnp.array([[1, 2, 3], [0, 3, 99]]), jnp.array([[True, True, True], [True, True, False]])
    given = dict(source_BS=source, source_mask_BS=mask)
    init = lambda tokens: jax.tree.map(lambda p: p * 3, model.init(jax.random.key(1), tokens, **given)["params"])
    return model, jax.jit(init)(np.zeros((2, 2), "int32")), given


def test_an_answer_is_the_argmax_of_full_passes():
    model, params, given = pair()
    tokens = np.array([[1, 2], [3, 0]])
    got = sample(model, params, jnp.asarray(tokens), KEY, length=5, sampling=GREEDY, **given)
    np.testing.assert_array_equal(got, by_full_passes(model, params, tokens, 5, **given))


def test_each_row_answers_its_own_source():
    model, params, given = pair()
    both = sample(model, params, jnp.array([[1], [1]]), KEY, length=6, sampling=GREEDY, **given)
    for row, real in enumerate((3, 2)):
        source_BS = given["source_BS"][row : row + 1, :real]
        alone = sample(model, params, jnp.array([[1]]), KEY, length=6, sampling=GREEDY, source_BS=source_BS)
        np.testing.assert_array_equal(both[row], alone[0])
    assert np.any(both[0] != both[1])


def test_a_source_is_neither_forgotten_nor_ignored():
    model, params, given = pair()
    with pytest.raises(ValueError, match="makes its first state from its source: call prefill"):
        sample(model, params, jnp.array([[1], [1]]), KEY, length=1)
    with pytest.raises(ValueError, match="Stack reads no second sequence: leave source_BS out"):
        sample(*trained("gru"), jnp.array([[1], [1]]), KEY, length=1, **given)
    with pytest.raises(ValueError, match="need 17 places, the attention cache has 16"):
        sample(model, params, jnp.array([[1], [1]]), KEY, length=17, **given)
