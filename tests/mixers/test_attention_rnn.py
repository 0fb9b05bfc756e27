"""The recurrent decoder with attention, token by token from its equations.

Run as a script in a process that simulates eight devices, it tells where devices meet in its gradients.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reading
from gradients import close, evaluate, run
from hlo import eight_devices, report
from reading import FLAGS, FRESH_L, REAL_L, REAL_S, B, D, L, S, call

from seqjax.mixers.attention_rnn import AttentionRNN

pytestmark = pytest.mark.usefixtures("compile_once")

drawn = functools.partial(reading.drawn, AttentionRNN)
OPTIONS = [
    {},
    dict(cell="lstm", score="general", alignment="local_m", radius=1),
    dict(score="dot", weights="sparsemax"),
    dict(score="scaled_dot", alignment="local_p", radius=2),
    dict(score="cosine", weights="entmax"),
    dict(score="location", max_source_length=4, weights="sigmoid"),
    dict(style="luong", cell="lstm"),
    dict(style="luong", score="dot", alignment="local_p", radius=1, weights="sigmoid"),
    dict(style="luong", score="location", max_source_length=9, alignment="local_m", radius=2),
    dict(style="luong", score="general", input_feeding=False, alignment="local_m", radius=1),
    dict(style="luong", score="additive", input_feeding=False, cell="lstm", alignment="local_p", radius=2),
    dict(style="luong", score="cosine", input_feeding=False),
]
NAMES = ["-".join(map(str, o.values())) or "default" for o in OPTIONS]
# Values with all options each time; gradients and pieces with every third, as the laws have some of them, too.
every_third = pytest.mark.parametrize(
    "options", [pytest.param(o, marks=[pytest.mark.slow] * (i % 3 > 0)) for i, o in enumerate(OPTIONS)], ids=NAMES
)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def weigh(kind, s):
    """Weights from scores; the threshold of sparse ones is found by halving."""
    if kind == "sigmoid":
        return sigmoid(s)
    if kind == "softmax":
        return np.exp(s - s.max()) / np.exp(s - s.max()).sum()
    shape = (lambda t: np.maximum(s - t, 0)) if kind == "sparsemax" else (lambda t: np.maximum(s / 2 - t, 0) ** 2)
    low, high = s.min() - 2, s.max()
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if shape(middle).sum() > 1 else (low, middle)
    return shape(low)


def read(o, p, s, memory, t):
    """c and the weights of one memory (its real tokens only), for a state and the place of its token."""
    count = len(memory)
    score = {
        "dot": lambda i, m: s @ m,
        "scaled_dot": lambda i, m: s @ m / np.sqrt(D),
        "general": lambda i, m: s @ p["key"] @ m,
        "additive": lambda i, m: p["v"] @ np.tanh(s @ p["query"] + m @ p["key"]),
        "cosine": lambda i, m: p["sharpness"] * s @ m / max(np.linalg.norm(s) * np.linalg.norm(m), 1e-9),
        "location": lambda i, m: (s @ p["places"])[min(i, o.max_source_length - 1)],
    }[o.score]
    centre = count * sigmoid(p["centre"] @ np.tanh(s @ p["predict"])) if o.alignment == "local_p" else t
    seen = [i for i in range(count) if o.alignment == "global" or abs(i - centre) <= o.radius]
    w = np.zeros(count)
    if seen:
        w[seen] = weigh(o.weights, np.array([score(i, memory[i]) for i in seen]))
    if o.alignment == "local_p":
        w *= np.exp(-((np.arange(count) - centre) ** 2) / (2 * (o.radius / 2) ** 2))
    return (w @ memory if count else np.zeros(D)), w


def cell(o, p, u, state):
    g = state[0] @ p["recurrent"]
    if o.cell == "gru":
        (r, z, n), (g_r, g_z, g_n), h = np.split(u, 3), np.split(g, 3), state[0]
        r, z = sigmoid(r + g_r), sigmoid(z + g_z)
        return ((1 - z) * np.tanh(n + r * (g_n + p["bias_n"])) + z * h,)
    i, f, g, o = np.split(u + g, 4)
    c = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def loop(o, p, x, memory):
    """Token by token: y, and the weights."""
    y, weights = np.zeros((B, L, D)), np.zeros((B, L, S))
    for b in range(B):
        start = ((np.zeros(D),) * (1 if o.cell == "gru" else 2), np.zeros(D), 0)
        state, fed, t = start
        for i in np.flatnonzero(REAL_L[b]):
            state, fed, t = start if FRESH_L[b, i] else (state, fed, t)
            look = lambda s, b=b, t=t: read(o, p, s, memory[b, REAL_S[b]], t)
            if o.style == "bahdanau":
                fed, w = look(state[0])
            u = x[b, i] @ p["kernel"] + p["bias"] + (fed @ p["feed"] if o.input_feeding else 0)
            state = cell(o, p, u, state)
            if o.style == "bahdanau":
                y[b, i] = np.concatenate([state[0], fed]) @ p["out"]
            else:
                c, w = look(state[0])
                y[b, i] = fed = np.tanh(np.concatenate([state[0], c]) @ p["out"])
            weights[b, i, REAL_S[b]] = w
            t += 1
    return y, weights


@pytest.mark.parametrize("options", OPTIONS, ids=NAMES)
def test_it_is_the_equations(options):
    module, params, x, memory = drawn(options)
    p = jax.tree.map(lambda a: np.asarray(a, float), params["params"])
    wanted, weights = loop(module, p, np.asarray(x, float), np.asarray(memory, float))
    (y, _), seen = call(module, params, x, memory, mutable=["intermediates"], **FLAGS)
    np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(seen["intermediates"]["weights"][0], weights[:, None], rtol=1e-4, atol=2e-5)
    assert not np.any(weights[2]) and np.any(weights[:2])
    np.testing.assert_allclose(call(module, params, x, memory, **FLAGS)[0], y, rtol=1e-6, atol=1e-6)


@every_third
def test_gradients_are_slopes(options):
    """<gradient, v> is the slope in a random direction v, of parameters, input and memory."""
    module, *arguments = drawn(options, seed=3)
    leaves, tree = jax.tree.flatten(tuple(arguments))
    draw = np.random.default_rng(9)
    v = [draw.normal(size=a.shape).astype("float32") for a in leaves]
    c = draw.normal(size=(B, L, D)).astype("float32")
    both = jax.jit(jax.grad(lambda a: (lambda y: (jnp.vdot(y, c), y))(call(module, *a, **FLAGS)[0]), has_aux=True))
    f, gradients = (lambda *a: both(a)[1]), both(tuple(arguments))[0]
    away = lambda h: np.asarray(f(*tree.unflatten([a + h * d for a, d in zip(leaves, v, strict=True)])), float)
    slope = np.vdot((away(1e-3) - away(-1e-3)) / 2e-3, c)
    got = sum(np.vdot(g, d) for g, d in zip(jax.tree.leaves(gradients), v, strict=True))
    np.testing.assert_allclose(got, slope, rtol=0.02, atol=0.02)


@every_third
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


def test_what_is_masked_in_the_memory_changes_nothing():
    module, params, x, memory = drawn({})
    f = lambda params, memory: call(module, params, x, memory)[0]
    y, gradients = evaluate(f, params, jnp.where(REAL_S[..., None], memory, jnp.nan))
    close((y, gradients), evaluate(f, params, memory))
    assert not np.any(gradients[1][~REAL_S]) and np.all(np.any(gradients[1], axis=-1)[REAL_S])


def test_with_an_empty_memory_it_is_the_cell():
    """Nothing that is read has an influence."""
    module, params, x, memory = drawn({})
    y, _ = call(module, params, x, memory)
    more = jax.tree.map(lambda a: a, params)
    more["params"]["feed"] = params["params"]["feed"] + 1.0
    z, _ = call(module, more, x, memory)
    np.testing.assert_array_equal(y[2], z[2])
    assert np.any(y[:2] != z[:2])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(alignment="local_m", radius=0), "radius: got 0, wanted an int of at least 1"),
        (
            dict(radius=2),
            "mixer.radius=2 with mixer.alignment='global': set a radius for local alignment, and None for 'global'",
        ),
        (dict(alignment="local_p"), "mixer.radius=None with mixer.alignment='local_p'"),
        (dict(score="location"), "mixer.max_source_length=None with mixer.score='location'"),
        (dict(max_source_length=3), "mixer.max_source_length=3 with mixer.score='additive'"),
        (dict(input_feeding=False), "mixer.input_feeding=False with mixer.style='bahdanau'"),
        (dict(score="product"), "score: got 'product', wanted one of 'dot'"),
    ],
)
def test_what_it_refuses(options, words):
    with pytest.raises(ValueError, match=words):
        AttentionRNN(width=D, **options)


def test_what_does_not_fit_is_refused():
    reading.check_refusals(AttentionRNN, "Decoding")


SHARDED = {
    "bahdanau": {},
    "luong": dict(style="luong", cell="lstm", score="cosine", alignment="local_p", radius=2),
    "not fed": dict(style="luong", score="general", input_feeding=False),
}


def main():
    """Rows over eight devices."""
    spread = lambda a: jnp.resize(a, (16, *a.shape[1:]))
    programs = {}
    for name, options in SHARDED.items():
        module, params, x, memory = drawn(options)
        read = lambda params, x, memory, module=module: call(module, params, x, memory, mask_BS=None)[0]
        programs[name] = read, params
    report(programs, spread(x), spread(memory))


@pytest.fixture(scope="module")
def found():
    return eight_devices(__file__)


@pytest.mark.slow  # a process of its own, which compiles for eight devices
@pytest.mark.parametrize("name", SHARDED)
def test_devices_meet_once_and_outside_of_loops(found, name):
    one = found[name]
    assert one["loops"] >= 2 and not one["inside"] and one["all"] == ["all-reduce"]


if __name__ == "__main__":
    main()
