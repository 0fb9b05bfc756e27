"""Decoding through `Model.step` is what full forward passes say."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from built import logits
from decoders import decode, program
from gradients import run

from seqjax import spec
from seqjax.decoding.greedy import Greedy
from seqjax.decoding.sample import Sample
from seqjax.mixers.attention import Attention
from seqjax.mixers.gru import GRU
from seqjax.models.seq2seq import Seq2Seq
from seqjax.models.stack import Stack

pytestmark = pytest.mark.usefixtures("compile_once")

V, KEY = 6, jax.random.key(0)
WORDS = dict(inputs=spec.tokens(V), head=logits(V), width=8, expansion=0)


def greedy(length, **words):
    return Greedy(spec=spec.tokens(V, **words), max_length=length)


def sampling(length=1, **options):
    return Sample(spec=spec.tokens(V), max_length=length, **options)


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
    return sampling.choose(KEY, logits)


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
    got = decode(model, params, tokens, greedy(5)).tokens_BNL[:, 0]
    np.testing.assert_array_equal(got, by_full_passes(model, params, tokens, 5))


@MODELS
@pytest.mark.parametrize("options", [dict(), dict(temperature=2.0, top_k=4, samples=3)], ids=["greedy", "sample"])
def test_a_row_ends_with_its_end_token_and_scores_what_the_model_says(name, options):
    """Whatever draws the tokens: the score is the sum of log p of a forced pass, the end token included."""
    (model, params), T = trained(name), 9
    prompts, mask = np.array([[9, 1, 2], [4, 0, 5], [3, 9, 0], [2, 2, 1]]), np.ones((4, 3), bool)
    mask[0, 0] = mask[2, 1] = False
    freely = decode(model, params, prompts, _decoder(options, T), mask)
    assert freely.mask_BNL.all()
    end = int(freely.tokens_BNL[1, 0, 3])  # a token that a row draws for sure
    got = decode(model, params, prompts, _decoder(options, T, end=end), mask)
    ended = 0
    for row, own in np.ndindex(got.score_BN.shape):
        free, drawn, real = freely.tokens_BNL[row, own], got.tokens_BNL[row, own], got.mask_BNL[row, own]
        length = list(free).index(end) + 1 if end in free else T
        ended += length < T
        np.testing.assert_array_equal(real, np.arange(T) < length)
        np.testing.assert_array_equal(drawn, np.where(real, free, 0))
        for out, n in ((freely, T), (got, length)):
            forced = np.concatenate([prompts[row][mask[row]], free])[None, :-1]
            logits = run(model, {"params": params}, np.resize(forced, (1, T + 2)))[0][0, mask[row].sum() - 1 :]
            wanted = sum(logits[i, free[i]] - np.log(np.exp(logits[i].astype(float)).sum()) for i in range(n))
            np.testing.assert_allclose(out.score_BN[row, own], wanted, rtol=1e-4)
    assert ended and got.score_BN.dtype == "float32"


def _decoder(options, length, **words):
    if options:
        return Sample(spec=spec.tokens(V, **words), max_length=length, **options)
    return greedy(length, **words)


def test_without_a_limit_a_row_grows_to_the_length_of_the_data():
    """Prompt and continuation together, however long the other prompts are; after one token at least."""
    (model, params), prompts = trained("gru"), [[1, 2, 3, 4], [5, 0, 0, 0], [2, 1, 0, 0]]
    mask = np.arange(4) < [[4], [1], [2]]
    for length, wanted in ((5, [1, 4, 3]), (2, [1, 1, 1])):
        got = decode(model, params, prompts, Greedy(spec=spec.tokens(V, length)), mask)
        np.testing.assert_array_equal(got.mask_BNL.sum(axis=(1, 2)), wanted)
        longer = decode(model, params, prompts, greedy(4), mask)
        kept = got.mask_BNL[..., :4]
        np.testing.assert_array_equal(got.tokens_BNL[kept], longer.tokens_BNL[..., : kept.shape[-1]][kept])


@MODELS
def test_ragged_prompts_are_each_as_alone(name):
    model, params = trained(name)
    prompts = [[1, 2, 3, 4], [5], [2, 0]]
    padded, mask = np.full((3, 4), 99), np.zeros((3, 4), bool)
    for row, (prompt, start) in enumerate(zip(prompts, (0, 2, 1), strict=True)):  # padding on either side
        padded[row, start : start + len(prompt)] = prompt
        mask[row, start : start + len(prompt)] = True
    got = decode(model, params, padded, greedy(4), mask)
    for row, prompt in enumerate(prompts):
        alone = decode(model, params, [prompt], greedy(4))
        np.testing.assert_array_equal(got.tokens_BNL[row], alone.tokens_BNL[0])
        np.testing.assert_allclose(got.score_BN[row], alone.score_BN[0], rtol=1e-5)


def test_the_key_decides():
    model, params = trained("gru")
    draw = lambda seed: decode(model, params, [[1]], sampling(20), seed=seed).tokens_BNL
    np.testing.assert_array_equal(draw(0), draw(0))
    assert np.any(draw(0) != draw(1))


def test_the_likeliest_alone_is_greedy():
    model, params = trained("gru")
    run = lambda decoder: decode(model, params, [[1], [2]], decoder).tokens_BNL
    wanted = run(greedy(8))
    for options in (dict(temperature=0.0), dict(top_k=1), dict(top_p=1e-6)):
        np.testing.assert_array_equal(run(sampling(8, **options)), wanted)


@pytest.mark.parametrize(("top_k", "top_p"), [(3, 1.0), (None, 0.6), (4, 0.5), (99, 0.999), (None, 1.0)])
def test_filters_against_a_loop(top_k, top_p):
    random = np.random.default_rng(0)
    logits = np.concatenate([random.normal(size=(20, V)), random.integers(0, 3, (20, V))])  # with ties, too
    kept = np.isfinite(filtered(sampling(top_k=top_k, top_p=top_p), np.float32(logits)))
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
        kept = np.isfinite(filtered(sampling(top_p=tenths / 10), logits))
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
    kept = np.isfinite(filtered(sampling(top_p=top_p), logits))
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
    assert set(np.asarray(drawn(sampling(temperature=temperature, top_p=top_p), logits))) == {1}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_many_equal_tokens_are_drawn_alike_in_half_precision(dtype):
    draws = drawn(sampling(), jnp.zeros((4000, 1000), dtype))
    assert abs(np.mean(np.asarray(draws) < 500) - 0.5) < 0.05


def test_temperature_sharpens():
    logits = np.log(np.float32([[0.5, 0.3, 0.2]]))
    for temperature in (1.0, 0.5):
        draws = drawn(sampling(temperature=temperature), np.tile(logits, (20_000, 1)))
        wanted = np.array([0.5, 0.3, 0.2]) ** (1 / temperature)
        share = np.bincount(draws, minlength=3) / 20_000
        np.testing.assert_allclose(share, wanted / wanted.sum(), atol=0.02)


def test_what_cannot_be_continued():
    model, params = trained("attention")
    with pytest.raises(ValueError, match="the prompt is empty"):
        decode(model, params, jnp.zeros((1, 0), jnp.int32), greedy(1))
    with pytest.raises(ValueError, match="need 17 places, the attention cache has 16"):
        decode(model, params, [[0] * 4], greedy(14))
    with pytest.raises(ValueError, match="4 tokens of prompt and 14 new ones need 17 places"):
        decode(model, params, [[0] * 4], Greedy(spec=spec.tokens(V, 18)))
    assert decode(model, params, [[0] * 4], greedy(13)).tokens_BNL.shape == (1, 1, 13)
    with pytest.raises(ValueError, match="max_length: got 0, wanted an int of at least 1"):
        greedy(0)
    prefix = Stack(**WORDS, mixer=functools.partial(Attention, heads=2, prefix=5), layers=1)
    with pytest.raises(
        ValueError, match="the model reads the first 5 tokens as a whole, the prompt has 4: give a longer one"
    ):
        decode(prefix, params, [[0] * 4], greedy(1))
    with pytest.raises(ValueError, match="temperature: got -1"):
        sampling(temperature=-1)


def test_one_compilation_serves_all_calls():
    model, params = trained("gru")
    before = program(model, sampling(3))._cache_size()
    for seed in range(3):
        decode(model, params, [[1, 2, 3, 4, 5]], sampling(3), seed=seed)
    assert program(model, sampling(3))._cache_size() == before + 1


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
    got = decode(model, params, tokens, greedy(5), **given).tokens_BNL[:, 0]
    np.testing.assert_array_equal(got, by_full_passes(model, params, tokens, 5, **given))


def test_each_row_answers_its_own_source():
    model, params, given = pair()
    both = decode(model, params, [[1], [1]], greedy(6), **given).tokens_BNL
    for row, real in enumerate((3, 2)):
        one = {name: a[row : row + 1, :real] for name, a in given.items()}
        alone = decode(model, params, [[1]], greedy(6), **one).tokens_BNL
        np.testing.assert_array_equal(both[row], alone[0])
    assert np.any(both[0] != both[1])


def test_a_source_is_neither_forgotten_nor_ignored():
    model, params, given = pair()
    with pytest.raises(ValueError, match="makes its first state from its source: call prefill"):
        decode(model, params, [[1], [1]], greedy(1))
    with pytest.raises(ValueError, match="Stack reads no second sequence: leave source_BS out"):
        decode(*trained("gru"), [[1], [1]], greedy(1), **given)
    with pytest.raises(ValueError, match="need 17 places, the attention cache has 16"):
        decode(model, params, [[1], [1]], greedy(17), **given)
