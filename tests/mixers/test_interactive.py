"""Two sequences that read each other, token by token from the equations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reading
from built import logits
from gradients import close, evaluate, run
from reading import FLAGS, FRESH_L, REAL_L, REAL_S, B, D, L, S, call

from seqjax import spec
from seqjax.mixers.gru import GRU
from seqjax.mixers.interactive import Interactive
from seqjax.models import seq2seq

pytestmark = pytest.mark.usefixtures("compile_once")

drawn = functools.partial(reading.drawn, Interactive)
OPTIONS = [
    {},
    dict(heads=2, score="general", fusion="coattention", soft_cap=1.0),
    dict(heads=2, score="scaled_dot", soft_cap=30.0),
    dict(heads=2, causal=False),
    dict(score="general", fusion="coattention", causal=False),
]
NAMES = ["-".join(map(str, o.values())) or "default" for o in OPTIONS]


def loop(o, p, x, memory):
    """Token by token: y, a, and b of the whole documents."""
    H, K = o.heads, D // o.heads
    y, weights, back = np.zeros((B, L, D)), np.zeros((B, H, L, S)), np.zeros((B, H, S, L))
    r, c = np.zeros((B, L, D)), np.zeros((B, L, D))
    for b, h in np.ndindex(B, H):
        own, places, tokens = slice(h * K, h * K + K), np.flatnonzero(REAL_S[b]), np.flatnonzero(REAL_L[b])
        document = np.cumsum(FRESH_L[b] & REAL_L[b])
        m, x_h, e = memory[b, :, own], x[b, :, own], np.zeros((L, S))
        for t, s in np.ndindex(L, S):
            both = np.concatenate([x_h[t], m[s], x_h[t] * m[s]])
            score = {
                "trilinear": lambda both=both, h=h: np.concatenate([p["w_x"][h], p["w_m"][h], p["w_xm"][h]]) @ both,
                "general": lambda q=x_h[t], k=m[s], h=h: q @ p["key"][h] @ k,
                "scaled_dot": lambda q=x_h[t], k=m[s]: q @ k / np.sqrt(K),
            }[o.score]()
            e[t, s] = np.exp(o.soft_cap * np.tanh(score / o.soft_cap))
        for t in tokens:
            together = [i for i in tokens if document[i] == document[t]]
            seen = [i for i in together if i <= t or not o.causal]
            for s in places:
                a = e[t, s] / e[t, places].sum()
                r[b, t, own] += a * m[s]
                c[b, t, own] += a * (e[seen, s] @ x_h[seen]) / e[seen, s].sum()
                weights[b, h, t, s], back[b, h, s, t] = a, e[t, s] / e[together, s].sum()
    for b, t in zip(*np.nonzero(REAL_L), strict=True):
        parts = (r[b, t], c[b, t]) if o.fusion == "coattention" else (r[b, t], x[b, t] * r[b, t], x[b, t] * c[b, t])
        y[b, t] = np.concatenate([x[b, t], *parts]) @ p["out"]
    return y, weights, back


@pytest.mark.parametrize("options", OPTIONS, ids=NAMES)
def test_it_is_the_equations(options):
    module, params, x, memory = drawn(options)
    p = jax.tree.map(lambda a: np.asarray(a, float), params["params"])
    wanted, weights, back = loop(module, p, np.asarray(x, float), np.asarray(memory, float))
    (y, _), seen = call(module, params, x, memory, mutable=["intermediates"], **FLAGS)
    np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(seen["intermediates"]["weights"][0], weights, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(seen["intermediates"]["weights_back"][0], back, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(call(module, params, x, memory, **FLAGS)[0], y)


@pytest.mark.parametrize("options", OPTIONS, ids=NAMES)
def test_gradients_are_slopes(options):
    """<gradient, v> is the slope in a random direction v, of parameters, input and memory."""
    module, *arguments = drawn(options)
    leaves, tree = jax.tree.flatten(tuple(arguments))
    draw = np.random.default_rng(9)
    v = [draw.normal(size=a.shape).astype("float32") for a in leaves]
    c = draw.normal(size=(B, L, D)).astype("float32")
    both = jax.jit(jax.grad(lambda a: (lambda y: (jnp.vdot(y, c), y))(call(module, *a, **FLAGS)[0]), has_aux=True))
    f, gradients = (lambda *a: both(a)[1]), both(tuple(arguments))[0]
    away = lambda h: np.asarray(f(*tree.unflatten([a + h * d for a, d in zip(leaves, v, strict=True)])), float)
    slope = np.vdot((away(1e-3) - away(-1e-3)) / 2e-3, c)
    got = sum(np.vdot(g, d) for g, d in zip(jax.tree.leaves(gradients), v, strict=True))
    np.testing.assert_allclose(got, slope, rtol=0.01, atol=0.01)
    assert all(np.any(g) for g in jax.tree.leaves(gradients))


@pytest.mark.parametrize("options", OPTIONS[:3], ids=NAMES[:3])
def test_pieces_are_the_whole(options):
    module, params, x, memory = drawn(options)
    y, last = call(module, params, x, memory, **FLAGS)
    state, pieces = run(module, params, memory, REAL_S, method="prefill"), []
    one = lambda x, state, mask, reset: run(module, params, x, state, mask_BL=mask, reset_BL=reset)
    for start in range(0, L, 2):
        now = slice(start, start + 2)
        piece, state = one(x[:, now], state, REAL_L[:, now], FRESH_L[:, now])
        pieces.append(piece)
    close((np.concatenate(pieces, axis=1), state), (y, last))


@pytest.mark.parametrize("options", [{}, dict(causal=False)], ids=["causal", "bidirectional"])
def test_what_is_masked_changes_nothing(options):
    module, params, x, memory = drawn(options)
    f = lambda both, memory: call(module, *both, memory, **FLAGS)[0]
    noisy = [np.where(real[..., None], a, np.float32(np.nan)) for real, a in ((REAL_L, x), (REAL_S, memory))]
    y, gradients = evaluate(f, (params, noisy[0]), noisy[1])
    close((y, gradients), evaluate(f, (params, x), memory))
    assert not np.any(y[~REAL_L]) and not np.any(gradients[0][1][~REAL_L]) and not np.any(gradients[1][~REAL_S])


def test_with_an_empty_memory_it_is_a_product():
    module, params, x, memory = drawn({})
    y, _ = call(module, params, x, memory)
    np.testing.assert_allclose(y[2], x[2] @ params["params"]["out"][:D], rtol=1e-5, atol=1e-5)
    slope = jax.jit(jax.grad(lambda x: call(module, params, x, memory)[0][2].sum()))(x)[2]
    np.testing.assert_allclose(slope, np.broadcast_to(params["params"]["out"][:D].sum(1), (L, D)), rtol=1e-5, atol=1e-5)


def test_a_bidirectional_one_sees_all_and_does_not_go_on():
    module, params, x, memory = drawn(dict(causal=False))
    assert not module.causal and Interactive(width=D).causal
    y, after = call(module, params, x, memory)
    moved, _ = call(module, params, x + (np.arange(L) == L - 1)[:, None].astype("float32"), memory)
    assert np.all(np.abs(moved - y).max(axis=2)[:2] > 0)
    with pytest.raises(
        ValueError, match="the state is None, Interactive wants the state Interaction with 3 rows: make it with"
    ):
        module.apply(params, x, after)
    state = run(module, params, memory, method="prefill")
    with pytest.raises(
        ValueError, match=r"mixer\.causal=False reads whole sequences and has no step: set mixer\.causal"
    ):
        module.apply(params, x[:, 0], state, method="step")


def test_a_decoder_takes_a_causal_one_only():
    build = lambda **o: seq2seq.Model(
        inputs=spec.tokens(5, source=(5, 3)),
        head=logits(5),
        width=D,
        mixer=GRU,
        cross_attention=lambda **k: Interactive(**k, **o),
    )
    assert build().causal
    assert build(causal=False).ahead == ["Interactive"] * 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(heads=3), "mixer.heads=3 does not divide model.width=4"),
        (dict(soft_cap=0.0), "soft_cap: got 0.0, wanted a float above 0 and at most 30"),
        (dict(soft_cap=80.0), "soft_cap: got 80.0"),
        (dict(score="dot"), "score: got 'dot', wanted one of 'trilinear'"),
    ],
)
def test_what_it_refuses(options, words):
    with pytest.raises(ValueError, match=words):
        Interactive(width=D, **options)


def test_what_does_not_fit_is_refused():
    reading.check_refusals(Interactive, "Interaction")
