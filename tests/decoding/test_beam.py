"""Beam search against all continuations, and against a search over lists."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from built import logits
from decoders import decode

from seqjax import lookup, spec
from seqjax.decoding.beam import Beam, _shared
from seqjax.decoding.greedy import Greedy
from seqjax.mixers.attention import Attention
from seqjax.mixers.gru import GRU
from seqjax.models import Model
from seqjax.models.seq2seq import Seq2Seq
from seqjax.tasks._base import Reads
from seqjax.training.net import Net

pytestmark = pytest.mark.usefixtures("compile_once")

V, END, T, S = 3, 2, 5, 3
SPEC = spec.tokens(V, 8, source=(4, S), end=END)
MIXERS = (functools.partial(Attention, heads=2, max_length=16), GRU)
MODEL = Seq2Seq(inputs=SPEC, head=logits(V), width=8, layers=2, mixer=MIXERS, encoder_layers=1, expansion=0)
B = 12
_RANDOM = np.random.default_rng(0)
SOURCE = dict(source_BS=_RANDOM.integers(0, 4, (B, S)), source_mask_BS=np.ones((B, S), bool))
SOURCE["source_mask_BS"][1, 2:] = False
PROMPT, MASK = _RANDOM.integers(0, V, (B, 2)), np.ones((B, 2), bool)
MASK[1, 0] = False
PENALTIES = {
    "none": lambda n: 1.0,
    "average": lambda n: n,
    "gnmt": lambda n: ((5 + n) / 6) ** 0.7,
}


@functools.cache
def params():
    init = lambda x: jax.tree.map(lambda p: p * 3, MODEL.init(jax.random.key(3), x, **SOURCE)["params"])
    return jax.jit(init)(PROMPT)


@functools.cache
def tables() -> list[dict]:
    """For each row: log p(next token | tokens so far), of all strings of fewer than T tokens."""
    every = np.array(list(itertools.product(range(V), repeat=T - 1)))
    run = jax.jit(lambda x, **given: jax.nn.log_softmax(MODEL.apply({"params": params()}, x, **given)[0]))
    found = []
    for row in range(len(PROMPT)):
        tile = lambda a, row=row: np.tile(a[row], (len(every), 1))
        x, mask = (np.concatenate([tile(a), b], axis=1) for a, b in ((PROMPT, every), (MASK, every >= 0)))
        log_p = run(x, mask_BL=mask, **{name: tile(a) for name, a in SOURCE.items()})[:, PROMPT.shape[1] - 1 :]
        found.append({tuple(e[:n]): np.asarray(log_p[i, n]) for i, e in enumerate(every) for n in range(T)})
    return found


def log_p(row: int, tokens) -> float:
    return sum(float(tables()[row][tokens[:n]][token]) for n, token in enumerate(tokens))


def beam(size, **options):
    if options.get("penalty") == "gnmt":
        options["alpha"] = 0.7
    return Beam(**{"spec": SPEC, "max_length": T, "beam_size": size} | options)


def continuations(decoder, **more):
    """Of each row: (tokens, log p) of each result."""
    out = decode(MODEL, params(), PROMPT, decoder, MASK, **SOURCE | more)
    assert not out.tokens_BNL[~out.mask_BNL].any()
    return [
        [(tuple(t[m].tolist()), score) for t, m, score in zip(*row, strict=True)]
        for row in zip(out.tokens_BNL, out.mask_BNL, out.score_BN, strict=True)
    ]


def allowed(tokens, min_length=1, no_repeat_ngram_size=None):
    grams = [tokens[i : i + no_repeat_ngram_size] for i in range(len(tokens))] if no_repeat_ngram_size else []
    grams = [gram for gram in grams if len(gram) == no_repeat_ngram_size]
    early = END in tokens and len(tokens) < min_length
    return not early and len(grams) == len(set(grams))


@pytest.mark.parametrize(
    ("penalty", "n_best", "rules"),
    [
        ("none", 3, {}),
        ("average", 1, {}),
        ("gnmt", 3, {}),
        ("average", 33, {"min_length": 3}),
        ("gnmt", 3, {"min_length": 2, "no_repeat_ngram_size": 2}),
    ],
    ids=str,
)
def test_a_beam_that_holds_everything_finds_the_best(penalty, n_best, rules):
    """All continuations that end within the limit, by their scores; then those that were cut."""
    bodies = [body for n in range(T) for body in itertools.product(range(V - 1), repeat=n)]
    ended = [tokens for tokens in ((*body, END) for body in bodies) if allowed(tokens, **rules)]
    cut = [tokens for tokens in itertools.product(range(V - 1), repeat=T) if allowed(tokens, **rules)]
    found = continuations(beam(V**T, n_best=n_best, penalty=penalty, **rules))
    for row, results in enumerate(found):
        score = lambda tokens, row=row: log_p(row, tokens) / PENALTIES[penalty](len(tokens))
        order = sorted(ended, key=score, reverse=True) + sorted(cut, key=score, reverse=True)
        np.testing.assert_allclose([s for _, s in results], [log_p(row, t) for t, _ in results], rtol=1e-5)
        assert [tokens for tokens, _ in results] == order[:n_best]


def by_lists(row: int, k: int, n_best: int, penalty: str):
    """Beam search that never stops before the limit."""
    live, ended = [()], []
    for _ in range(T):
        longer = sorted(((*tokens, v) for tokens in live for v in range(V)), key=lambda t: -log_p(row, t))[: 2 * k]
        ended += [tokens for tokens in longer[:k] if tokens[-1] == END]
        live = [tokens for tokens in longer if tokens[-1] != END][:k]
    ended.sort(key=lambda tokens: -log_p(row, tokens) / PENALTIES[penalty](len(tokens)))
    return (ended + live)[:n_best]


@pytest.mark.parametrize(("k", "n_best", "penalty"), [(2, 1, "average"), (3, 3, "gnmt"), (2, 2, "none")])
def test_a_small_beam_is_a_search_over_lists_that_goes_on_to_the_limit(penalty, k, n_best):
    found = continuations(beam(k, n_best=n_best, penalty=penalty))
    wanted = [by_lists(row, k, n_best, penalty) for row in range(len(PROMPT))]
    assert [[tokens for tokens, _ in results] for results in found] == wanted


class Places(Model):
    """Tokens with a distribution for each place, whatever came before."""

    def init_state(self, batch):
        return jnp.zeros(batch, int)

    def __call__(self, x_BL, state, *, mask_BL=None, reset_BL=None, deterministic=True):
        logits_BV, state = self.step(x_BL[:, -1], state)
        return logits_BV[:, None], state

    def step(self, token_B, place_B, **flags):
        p_TV = jnp.array([[0.35, 0.25, 0.4], [0.005, 0.005, 0.99], [0.98, 0.01, 0.01]])
        return jnp.log(p_TV)[jnp.minimum(place_B, 2)], place_B + 1


def test_a_live_hypothesis_that_may_still_win_goes_on():
    """At first the end is likelier than any token, and its mean is better until the next token."""
    ending = spec.tokens(V, 8, end=END)
    model, decoder = Places(inputs=ending, head=logits(V)), Beam(spec=ending, max_length=9, beam_size=1)
    out = decode(model, {}, [[0]], decoder)
    assert out.tokens_BNL[out.mask_BNL].tolist() == [0, END]
    np.testing.assert_allclose(out.score_BN, np.log([[0.35 * 0.99]]), rtol=1e-5)


def test_a_beam_of_one_is_greedy():
    one, greedy = beam(1, penalty="none"), Greedy(spec=SPEC, max_length=T)
    assert continuations(one) == [
        [(tokens, pytest.approx(score, rel=1e-6))] for ((tokens, score),) in continuations(greedy)
    ]


def test_each_row_is_as_alone_whatever_its_padding():
    """The limit of a row follows from the real tokens of its source."""
    decoder = beam(3, n_best=3, max_length=None)
    found = continuations(decoder)
    for row, results in list(enumerate(found))[:2]:
        alone = [PROMPT[row][MASK[row]][None], SOURCE["source_BS"][row][SOURCE["source_mask_BS"][row]][None]]
        out = decode(MODEL, params(), alone[0], decoder, source_BS=alone[1])
        assert [tuple(t[m].tolist()) for t, m in zip(out.tokens_BNL[0], out.mask_BNL[0], strict=True)] == [
            tokens for tokens, _ in results
        ]
        np.testing.assert_allclose(out.score_BN[0], [score for _, score in results], rtol=1e-5)


@pytest.mark.parametrize("make", [functools.partial(Beam, beam_size=2), Greedy])
def test_without_an_end_a_row_has_twice_the_tokens_of_its_source_and_five(make):
    endless = spec.tokens(V, 8, source=(4, S))
    found = continuations(make(spec=endless))
    assert [len(results[0][0]) for results in found[:3]] == [11, 9, 11]
    small = MODEL.clone(mixer=(functools.partial(Attention, heads=2, max_length=10), GRU))
    out = decode(small, params(), PROMPT, make(spec=endless), MASK, **SOURCE)
    assert out.mask_BNL.sum(axis=-1).ravel().tolist() == [9] * B  # the last token is never read


def test_given_continuations_score_what_the_search_says():
    decoder = beam(3, n_best=3, penalty="gnmt")
    out = decode(MODEL, params(), PROMPT, decoder, MASK, **SOURCE)
    score = jax.jit(lambda x, m: decoder.score(Net(MODEL, params()), Reads(PROMPT, MASK, side=SOURCE), x, m))
    for n in range(3):
        tokens_BT = np.where(out.mask_BNL[:, n], out.tokens_BNL[:, n], 99)
        wanted = decoder.normalised(out.score_BN[:, n], out.mask_BNL[:, n].sum(axis=1))
        np.testing.assert_allclose(score(tokens_BT, out.mask_BNL[:, n]), wanted, rtol=1e-5)


def readers():
    names = lookup.names("seqjax.mixers")
    found = {name: lookup.find(name, "seqjax.mixers", "Mixer") for name in names}
    return [name for name, mixer in found.items() if getattr(mixer, "memory", False)]


@pytest.mark.parametrize("name", readers())
def test_no_hypothesis_has_a_memory_of_its_own(name):
    """What a step changes has no axis of the source, but for sums over the tokens so far."""
    reader = lookup.find(name, "seqjax.mixers", "Mixer")
    own = name == "attention_rnn"
    more = dict(mixer=reader, cross_attention=None) if own else dict(mixer=GRU, cross_attention=reader)
    model = MODEL.clone(**more, layers=1)
    source_BS, mask_BS = jnp.zeros((2, 7), int), jnp.ones((2, 7), bool)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), source_BS, source_BS=source_BS)["params"])
    held = []

    def look(params):
        net = Net(model, params)
        state = net.prefill(source_BS, mask_BS)
        shared = _shared(net, state)
        held.append([a.shape for a, same in zip(jax.tree.leaves(state), shared, strict=True) if not same])
        return state

    state = jax.eval_shape(look, shapes)
    own = [shape for shape in held[0] if 7 in shape]
    assert len(own) < sum(7 in a.shape for a in jax.tree.leaves(state))
    assert own == ([a.shape for a in jax.tree.leaves(state[1].sums)] if name == "interactive" else [])


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="n_best=3 is larger than beam_size=2: ask for fewer"):
        beam(2, n_best=3)
    with pytest.raises(ValueError, match="alpha=None with penalty='gnmt': set alpha for 'gnmt'"):
        Beam(spec=SPEC, penalty="gnmt")
    with pytest.raises(ValueError, match=r"alpha=1\.0 with penalty='average'"):
        Beam(spec=SPEC, alpha=1.0)
