"""Every cell over time against a loop in numpy, written from the equations, and its gradients against plain autodiff.

Here `real` and `fresh` are masks and resets; a row is one vector (or frame), and a loop goes over rows and tokens.
"""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from activations import sigmoid

from seqjax import lookup
from seqjax.ops import cells, scan

pytestmark = pytest.mark.usefixtures("compile_once")

RNG = np.random.default_rng(0)
N, P, FRAME = 4, 3, (3, 2, 2)


def draw(*shape):
    return RNG.normal(size=shape) * 0.7


def normed(v):
    return (v - v.mean()) / np.sqrt(((v - v.mean()) ** 2).mean() + 1e-6)


# ---- The equations: one token of one row.


def elman(u, state, dot, rows, f=np.tanh):
    return (f(u["x"] + dot("recurrent", state[0])) * u.get("update", 1),)


def elman_relu(u, state, dot, rows):
    return elman(u, state, dot, rows, lambda z: np.maximum(z, 0))


def lstm(u, state, dot, rows):
    h, c = state
    z = dot("recurrent", h)
    z = u["x"] + (rows["scale"] * normed(z) if "scale" in rows else z)
    i, f, g, o = np.split(z, 4, axis=-1)
    p_i, p_f, p_o = np.split(rows.get("peepholes", np.zeros(3)), 3)
    new = sigmoid(f + p_f * c) * c + sigmoid(i + p_i * c) * np.tanh(g) * u.get("update", 1)
    read = rows["scale_c"] * normed(new) + rows["bias_c"] if "scale_c" in rows else new
    return sigmoid(o + p_o * new) * np.tanh(read), new


def lstm_projected(u, state, dot, rows):
    h, c = lstm(u, state, dot, rows)
    return dot("projection", h), c


def gru(u, state, dot, rows):
    (h,) = state
    (u_r, u_z, u_n), (g_r, g_z, g_n) = np.split(u["x"], 3), np.split(dot("recurrent", h), 3)
    r, z = sigmoid(u_r + g_r), sigmoid(u_z + g_z)
    n = np.tanh(u_n + r * (g_n + rows["bias_n"])) * u.get("update", 1)
    return ((1 - z) * n + z * h,)


def gru_before(u, state, dot, rows):
    (h,) = state
    (u_r, u_z, u_n), (g_r, g_z) = np.split(u["x"], 3), np.split(dot("gates", h), 2)
    r, z = sigmoid(u_r + g_r), sigmoid(u_z + g_z)
    n = np.tanh(u_n + dot("candidate", r * h)) * u.get("update", 1)
    return ((1 - z) * n + z * h,)


def mgu(u, state, dot, rows):
    (h,) = state
    u_f, u_n = np.split(u["x"], 2)
    f = sigmoid(u_f + dot("gates", h))
    n = np.tanh(u_n + dot("candidate", f * h)) * u.get("update", 1)
    return ((1 - f) * h + f * n,)


def slstm(u, state, dot, rows):
    """Without a stabiliser: c and n themselves, which are exp(m) times what the cell keeps."""
    h, c, n, m = state
    c, n = c * np.exp(m), n * np.exp(m)
    # Each head has its four gates side by side, the input has four gates of all heads.
    i, f, z, o = (
        np.concatenate([head.reshape(4, -1)[gate] for head in dot("recurrent", h)]) + np.split(u["x"], 4)[gate]
        for gate in range(4)
    )
    i, f = np.exp(i), sigmoid(f)
    c, n = f * c + i * np.tanh(z) * u.get("update", 1), f * n + i
    return sigmoid(o) * c / n, c, n, np.zeros_like(n)


def times(a, w):
    """a times a matrix, the blocks of one, or the kernel of a convolution that sees zeros beyond the edge."""
    if w.ndim == 2:
        return a @ w
    if w.ndim == 3:
        return np.stack([part @ block for part, block in zip(np.split(a, len(w)), w, strict=True)])
    (height, width, _), (rows, columns) = a.shape, w.shape[:2]
    out = np.zeros((height, width, w.shape[-1]))
    for y, x, i, j in np.ndindex(height, width, rows, columns):
        # An even kernel sees more of what comes after it than of what comes before.
        above, left = y + i - (rows - 1) // 2, x + j - (columns - 1) // 2
        if 0 <= above < height and 0 <= left < width:
            out[y, x] += a[above, left] @ w[i, j]
    return out


@dataclasses.dataclass(frozen=True)
class Case:
    """A cell, its equations, and shapes: of the input of a token, of each state, of weights and of rows."""

    step: Callable
    oracle: Callable
    x: tuple
    states: tuple
    weights: dict
    rows: dict = dataclasses.field(default_factory=dict)


NORM = {"scale": (4 * N,), "scale_c": (N,), "bias_c": (N,)}
PEEPHOLES = {"peepholes": (3 * N,)}
CASES = {
    "tanh": Case(cells.tanh, elman, (N,), ((N,),), {"recurrent": (N, N)}),
    "relu": Case(cells.relu, elman_relu, (N,), ((N,),), {"recurrent": (N, N)}),
    "lstm": Case(cells.lstm, lstm, (4 * N,), ((N,),) * 2, {"recurrent": (N, 4 * N)}),
    "lstm-peepholes": Case(cells.lstm, lstm, (4 * N,), ((N,),) * 2, {"recurrent": (N, 4 * N)}, PEEPHOLES),
    "lstm-norm": Case(cells.lstm, lstm, (4 * N,), ((N,),) * 2, {"recurrent": (N, 4 * N)}, NORM),
    "lstm_projected": Case(
        cells.lstm_projected,
        lstm_projected,
        (4 * N,),
        ((P,), (N,)),
        {"recurrent": (P, 4 * N), "projection": (N, P)},
        PEEPHOLES | NORM,
    ),
    "lstm-frames": Case(cells.lstm, lstm, (3, 2, 8), (FRAME,) * 2, {"recurrent": (3, 3, 2, 8)}),
    "lstm-frames-even": Case(cells.lstm, lstm, (3, 2, 8), (FRAME,) * 2, {"recurrent": (2, 2, 2, 8)}),
    "gru": Case(cells.gru, gru, (3 * N,), ((N,),), {"recurrent": (N, 3 * N)}, {"bias_n": (N,)}),
    "gru_before": Case(cells.gru_before, gru_before, (3 * N,), ((N,),), {"gates": (N, 2 * N), "candidate": (N, N)}),
    "mgu": Case(cells.mgu, mgu, (2 * N,), ((N,),), {"gates": (N, N), "candidate": (N, N)}),
    "slstm": Case(cells.slstm, slstm, (4 * N,), ((N,),) * 4, {"recurrent": (2, N // 2, 2 * N)}),
}
ZONED = 0.25


def arguments(name, rows=3, length=7, layout="mask+reset", noise=""):
    """A step with its noise around it, (u, weights, rows, state, initial), mask and reset, all in float64."""
    case = CASES[name]
    step, u = case.step, {"x": draw(rows, length, *case.x)}
    per_row = {k: draw(rows, *shape) for k, shape in case.rows.items()}
    states = [[draw(rows, *shape) for shape in case.states] for _ in range(2)]
    if name == "slstm":
        states = [[h, c, 0.5 + np.abs(n), m] for h, c, n, m in states]
    zoned = len(case.states) if name != "slstm" else 1  # the others belong together
    if "update" in noise:
        u["update"] = 1.5 * (RNG.random((rows, length, *case.states[-1])) > 0.3)
    if "variational" in noise:
        step, per_row["drop"] = scan.Variational(step), 2.0 * (RNG.random((rows, *case.states[0])) > 0.5)
    if "zoneout" in noise:
        step = scan.Zoneout(step, (1 - ZONED,) * zoned)
    if "drawn" in noise:
        u["new"] = tuple(1.0 * (RNG.random((rows, length, *shape)) > ZONED) for shape in case.states[:zoned])
    real = RNG.random((rows, length)) > 0.3 if "mask" in layout else None
    fresh = RNG.random((rows, length)) > 0.6 if "reset" in layout else None
    if real is not None:
        real[1] = False
    weights = {k: draw(*shape) for k, shape in case.weights.items()}
    return step, (u, weights, per_row, *map(tuple, states)), real, fresh


NOISE = ["", "update", "variational", "zoneout", "zoneout drawn", "update variational zoneout drawn"]


def loop(name, u, weights, rows, state, initial, real, fresh, noise):
    case = CASES[name]
    B, L = u["x"].shape[:2]
    y, last = np.zeros((B, L, *case.states[0])), []
    pick = lambda tree, *place: jax.tree.map(lambda a: a[place], tree)
    for b in range(B):
        own, s = pick(rows, b), pick(state, b)

        def dot(name, a, own=own):
            return times(a * own["drop"] if "drop" in own and name != "projection" else a, weights[name])

        for t in range(L):
            if real is not None and not real[b, t]:
                continue
            if fresh is not None and fresh[b, t]:
                s = pick(initial, b)
            token = pick(u, b, t)
            new = case.oracle(token, s, dot, own)
            if "zoneout" in noise:
                share = token.get("new", (1 - ZONED,) * (1 if name == "slstm" else len(s)))
                new = (*((1 - k) * old + k * n for k, old, n in zip(share, s, new, strict=False)), *new[len(share) :])
            s, y[b, t] = new, new[0]
        last.append(s)
    return y, tuple(map(np.stack, zip(*last, strict=True)))


def check(name, layout, noise):
    step, args, real, fresh = arguments(name, layout=layout, noise=noise)
    with jax.enable_x64(True):
        got = jax.jit(lambda *args: scan.recur(step, *args, dtype="float64"))(*args, real, fresh)
    got = jax.tree.map(np.asarray, got)
    y, last = loop(name, *args, real, fresh, noise)
    if name == "slstm":  # c and n in units of their own
        undo = lambda h, c, n, m: (h, c * np.exp(m), n * np.exp(m))
        got, last = (got[0], undo(*got[1])), undo(*last)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), got, (y, last))


@pytest.mark.parametrize("layout", ["plain", "mask+reset"])
@pytest.mark.parametrize("name", CASES)
def test_cells(name, layout):
    check(name, layout, "")


@pytest.mark.parametrize("name", CASES)
def test_cells_with_all_their_noise(name):
    check(name, "mask+reset", NOISE[-1])


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("layout", ["mask", "reset"])
def test_each_noise_by_itself(layout, noise):
    check("lstm_projected", layout, noise)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 3), (4, 4), (2, 3), (3, 1)], ids=str)
def test_frames_are_padded_as_in_a_convolution_that_keeps_their_size(size):
    frames, kernel = draw(5, *FRAME), draw(*size, FRAME[-1], 3)

    @jax.jit
    def both(frames, kernel):
        like = jax.lax.conv_general_dilated(frames, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return scan.product(frames, kernel, "float64"), like

    with jax.enable_x64(True):
        got, wanted = jax.device_get(both(frames, kernel))
    np.testing.assert_allclose(got, wanted, atol=1e-12)
    np.testing.assert_allclose(got, [times(frame, kernel) for frame in frames], atol=1e-12)


def test_layer_norm():
    x, scale = 3 + 10 * draw(2, 5), draw(2, 5)
    x[1] = 4.0  # no spread: zero, not NaN
    with jax.enable_x64(True):
        got = jax.device_get(jax.jit(cells.layer_norm)(x, scale))
    np.testing.assert_allclose(got, scale * np.stack([normed(row) for row in x]), atol=1e-12)


@pytest.mark.parametrize("more", [-1e3, 200.0, 1e3])
def test_input_gates_of_the_slstm_may_be_of_any_size(more):
    """From an empty state on, c / n is a mean: nothing changes if all input gates are exp(more) times as large."""
    step, (u, weights, rows, _, _), real, fresh = arguments("slstm")
    empty = tuple(np.full((3, N), value, "float32") for value in (0.0, 0.0, 0.0, -1e30))

    def outputs(u, weights):
        return scan.recur(step, u, weights, rows, empty, empty, real, fresh)[0]

    @jax.jit
    def run(more):
        moved = {"x": jnp.float32(u["x"]).at[..., :N].add(more)}
        y, pull = jax.vjp(outputs, moved, jax.tree.map(jnp.float32, weights))
        return y, pull(jnp.cos(y))

    # float32 keeps gates of 1000 to 1e-4 only.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3), run(more), run(0.0))


def test_products_run_in_the_dtype_asked_for_and_states_in_float32():
    step, args, real, fresh = arguments("lstm_projected")
    args = jax.tree.map(np.float32, args)
    low, full = jax.jit(lambda *args: [scan.recur(step, *args, real, fresh, dtype=d) for d in ("bfloat16", "float32")])(
        *args
    )
    assert {a.dtype.name for a in jax.tree.leaves(low)} == {"float32"}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=0.05), low, full)
    assert np.max(np.abs(low[0] - full[0])) > 1e-4


# ---- Gradients.


def plain(step, u, weights, rows, state, initial, real, fresh):
    """The same step in a scan that JAX differentiates by itself."""
    B, L = u["x"].shape[:2]
    real = np.ones((B, L), bool) if real is None else real
    fresh = np.zeros((B, L), bool) if fresh is None else fresh & real

    def dot(name, a):
        w = weights[name]
        if w.ndim == 4:
            return jax.lax.conv_general_dilated(a, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return a @ w if w.ndim == 2 else jnp.einsum("BHK,HKM->BHM", a.reshape(B, *w.shape[:2]), w)

    def token(before, slices):
        u, real, fresh = slices
        either = lambda flag, yes, no: jnp.where(flag.reshape(B, *(1,) * (no.ndim - 1)), yes, no)
        begin = jax.tree.map(lambda i, s: either(fresh, i, s), initial, before)
        after = jax.tree.map(lambda new, s: either(real, new, s), step(u, begin, dot, rows), before)
        return after, either(real, after[0], jnp.zeros_like(after[0]))

    time_first = lambda tree: jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), tree)
    last, y = jax.lax.scan(token, state, time_first((u, real, fresh)))
    return time_first(y), last


# Rows, length, layout and noise. 40 tokens are four chunks, 41 are four, too, of which the last is filled up.
CHUNKS = {
    "one": (3, 7, "mask+reset", ""),
    "whole": (40, 40, "reset", "update"),
    "no mask": (40, 41, "plain", "zoneout"),
    "filled up": (40, 41, "mask+reset", NOISE[-1]),
}


@pytest.mark.parametrize(
    ("name", "chunks"),
    [(name, "filled up") for name in CASES]
    + [("lstm_projected", chunks) for chunks in CHUNKS if chunks != "filled up"],
)
def test_gradients_are_those_of_plain_autodiff(name, chunks):
    rows, length, layout, noise = CHUNKS[chunks]
    step, args, real, fresh = arguments(name, rows, length, layout, noise)
    with jax.enable_x64(True):
        args = jax.tree.map(jnp.asarray, args)
        shapes = CASES[name].states
        cotangent = draw(rows, length, *shapes[0]), tuple(draw(rows, *shape) for shape in shapes)

        def gradients(args, *flags):
            pull = lambda f: jax.vjp(lambda *args: f(step, *args, *flags), *args)[1](cotangent)
            return [pull(f) for f in (plain, *(partial(scan.recur, dtype="float64", remat=r) for r in (False, True)))]

        wanted, *found = jax.jit(gradients)(args, real, fresh)
        assert all(np.any(g) for g in jax.tree.leaves(wanted[:-1] if fresh is None else wanted))
        for got in found:
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10), got, wanted)


@pytest.mark.parametrize("name", ["lstm_projected", "lstm-frames", "gru_before", "slstm"])
def test_chunks_run_twice_take_a_quarter_of_the_memory_of_autodiff(name):
    step, (_, *others), _, _ = arguments(name, 4, 1, "plain")
    u = {"x": jax.ShapeDtypeStruct((4, 2048, *CASES[name].x), "float32")}

    def temporary(f):
        """Bytes that the gradient needs beside its arguments and results."""
        slope = jax.jit(jax.grad(lambda *args: jnp.sum(jnp.sin(f(step, *args)[0])), (0, 1)))
        return slope.lower(u, *jax.tree.map(jnp.float32, others)).compile().memory_analysis().temp_size_in_bytes

    ways = partial(scan.recur, remat=True), scan.recur, partial(plain, real=None, fresh=None)
    twice, once, autodiff = map(temporary, ways)
    assert twice < autodiff / 4 and twice < once / 2


# ---- The mixers: which parameter goes where.

MIXERS = {
    "mgu": ("mgu", {}, "mgu"),
    "slstm": ("slstm", dict(heads=2), "slstm"),
    "gru-before": ("gru", dict(reset_after=False), "gru_before"),
    "lstm-peepholes": ("lstm", dict(peepholes=True), "lstm-peepholes"),
    "lstm-norm": ("lstm", dict(layer_norm=True), "lstm-norm"),
    "lstm-hidden": ("lstm", dict(hidden_size=N, peepholes=True, layer_norm=True), "lstm_projected"),
    "conv_lstm": ("conv_lstm", dict(height=3, columns=2), "lstm-frames"),
    "conv_lstm-even": ("conv_lstm", dict(height=3, columns=2, kernel_size=2), "lstm-frames-even"),
}


@pytest.mark.parametrize("name", MIXERS)
def test_mixers_follow_their_equations(name):
    kind, options, case = MIXERS[name]
    B, L, shape = 3, 7, CASES[case].states[0]
    module = lookup.find(kind, "seqjax.mixers", "Mixer")(width=int(np.prod(shape)), **options)
    _, (*_, state, _), real, fresh = arguments(case)
    x = draw(B, L, module.width)
    params = jax.jit(module.init)(jax.random.key(0), jnp.float32(x))["params"]
    p = jax.tree.map(lambda p: np.float64(p) + 0.3 * draw(*p.shape), params)

    frames = x.reshape(B, L, *shape)
    u = np.stack([[times(token, p["kernel"]) for token in row] for row in frames])
    if "scale_x" in p:
        u = p["scale_x"] * np.apply_along_axis(normed, -1, u)
    weights = {k: p[k] for k in ("recurrent", "projection") if k in p}
    if "candidate" in CASES[case].weights:
        weights = dict(zip(("gates", "candidate"), np.split(p["recurrent"], [-module.width], axis=1), strict=True))
    rows = {k: np.stack([p[k].reshape(-1)] * B) for k in CASES[case].rows}
    initial = jax.tree.map(np.float64, module.init_state(B))
    initial = initial if isinstance(initial, tuple) else (initial,)
    wanted, last = loop(case, {"x": u + p["bias"]}, weights, rows, state, initial, real, fresh, "")

    own = state[0] if len(state) == 1 else state
    own, p, x = jax.tree.map(jnp.float32, (own, p, x))
    y, after = jax.jit(lambda p, x, s: module.apply({"params": p}, x, s, mask_BL=real, reset_BL=fresh))(p, x, own)
    np.testing.assert_allclose(y, wanted.reshape(x.shape), atol=2e-5)
    np.testing.assert_allclose(after if len(state) == 1 else after[0], last[0], atol=2e-5)


def test_a_product_is_asked_for_once():
    twice = lambda u, state, dot, rows: (u["x"] + dot("recurrent", state[0]) + dot("recurrent", u["x"]),)
    state = (jnp.zeros((2, N)),)
    with pytest.raises(ValueError, match=r"dot\('recurrent'\) twice"):
        scan.recur(twice, {"x": jnp.zeros((2, 3, N))}, {"recurrent": jnp.eye(N)}, {}, state, state)
