"""Every op against a loop in numpy, float64, written from the equations.

Here `real` and `fresh` are masks and resets; a new public function of `seqjax.ops` without an oracle fails.
"""

import functools
import importlib
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from activations import sigmoid

from seqjax import lookup
from seqjax.ops import attention, losses, pooling, positions, scan

RNG = np.random.default_rng(0)
B, L, D, N = 3, 7, 5, 4


def draw(*shape):
    return RNG.normal(size=shape) * 0.7


def cell_elman(x, state, p, activation=np.tanh):
    h = activation(x @ p["kernel"] + state[0] @ p["recurrent"] + p["bias"])
    return (h,)


def cell_relu(x, state, p):
    return cell_elman(x, state, p, lambda z: np.maximum(z, 0))


def cell_lstm(x, state, p):
    """torch.nn.LSTM: i, f, g, o; one bias in the place of b_i + b_h."""
    h, c = state
    (wi, wf, wg, wo), (ui, uf, ug, uo), (bi, bf, bg, bo) = (
        np.split(p[k], 4, axis=-1) for k in ("kernel", "recurrent", "bias")
    )
    i, f, o = sigmoid(x @ wi + h @ ui + bi), sigmoid(x @ wf + h @ uf + bf), sigmoid(x @ wo + h @ uo + bo)
    c = f * c + i * np.tanh(x @ wg + h @ ug + bg)
    return o * np.tanh(c), c


def cell_gru(x, state, p):
    """torch.nn.GRU: r, z, n; b_hn inside the reset gate."""
    (h,) = state
    (wr, wz, wn), (ur, uz, un), (br, bz, bn) = (np.split(p[k], 3, axis=-1) for k in ("kernel", "recurrent", "bias"))
    r, z = sigmoid(x @ wr + h @ ur + br), sigmoid(x @ wz + h @ uz + bz)
    n = np.tanh(x @ wn + bn + r * (h @ un + p["bias_n"]))
    return ((1 - z) * n + z * h,)


CELLS = {
    "elman": (scan.elman, cell_elman, 1, 1, {}),
    "relu": (scan.elman, cell_relu, 1, 1, {"activation": "relu"}),
    "lstm": (scan.lstm, cell_lstm, 4, 2, {}),
    "gru": (scan.gru, cell_gru, 3, 1, {}),
}


def loop(cell, x, state, initial, p, real, fresh):
    y = np.zeros((B, L, N))
    for b in range(B):
        s = tuple(h[b] for h in state)
        for t in range(L):
            if not real[b, t]:
                continue
            if fresh[b, t]:
                s = tuple(h[b] for h in initial)
            s = cell(x[b, t], s, p)
            y[b, t] = s[0]
        for h, last in zip(state, s, strict=True):
            h[b] = last
    return y, state


def arguments(name, layout):
    _, _, gates, slots, _ = CELLS[name]
    p = {"kernel": draw(D, gates * N), "recurrent": draw(N, gates * N), "bias": draw(gates * N)}
    if name == "gru":
        p["bias_n"] = draw(N)
    state, initial = (tuple(draw(B, N) for _ in range(slots)) for _ in range(2))
    real = RNG.random((B, L)) > 0.3 if "mask" in layout else None
    fresh = RNG.random((B, L)) > 0.6 if "reset" in layout else None
    return draw(B, L, D), p, state, initial, real, fresh


def run(name, x, p, state, initial, real, fresh, **more):
    op, _, _, slots, options = CELLS[name]
    pick = (lambda s: s[0]) if slots == 1 else (lambda s: s)
    weights = [p[k] for k in ("kernel", "recurrent", "bias", "bias_n") if k in p]
    y, last = op(x, *weights, pick(state), pick(initial), real, fresh, **options, **more)
    return y, (last,) if slots == 1 else last


def narrow(tree):
    return jax.tree.map(lambda a: a if a.dtype == bool else jnp.asarray(a, jnp.float32), tree)


@pytest.mark.parametrize("name", CELLS)
def test_cells(name):
    """All layouts in one program."""
    calls, wanted = [arguments(name, layout) for layout in ("plain", "mask", "reset", "mask+reset")], []
    got = jax.jit(lambda calls: [run(name, *call) for call in calls])(narrow(calls))
    for x, p, state, initial, real, fresh in calls:
        real, fresh = np.ones((B, L), bool) if real is None else real, np.zeros((B, L)) if fresh is None else fresh
        wanted.append(loop(CELLS[name][1], x, state, initial, p, real, fresh))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), got, wanted)


@pytest.mark.parametrize("name", CELLS)
def test_cells_in_low_precision_keep_the_dtype_of_the_input_and_a_float32_state(name):
    dtypes = ("float32", "bfloat16", "float16")
    f = lambda x, *rest: [run(name, x.astype(dtype), *rest) for dtype in dtypes]
    x, p, *rest = arguments(name, "mask+reset")
    p["recurrent"] /= 2  # relu grows without end otherwise, and so does what half precision loses
    near, *found = jax.jit(f)(*narrow((x, p, *rest)))
    for (y, last), dtype in zip(found, dtypes[1:], strict=True):
        assert y.dtype == dtype and all(h.dtype == jnp.float32 for h in last)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(np.float32(a), b, atol=0.05), (y, last), near)


def plain(name, x, p, state, initial, real, fresh):
    """The same recurrence as a scan that JAX differentiates by itself."""
    cell = CELLS[name][1]
    halves = {cell_elman: jnp.tanh, cell_relu: jax.nn.relu}

    def step(s, slices):
        x_BD, real_B, fresh_B = slices
        begin = jax.tree.map(lambda i, h: jnp.where((fresh_B & real_B)[:, None], i, h), initial, s)
        if name in ("elman", "relu"):
            new = (halves[cell](x_BD @ p["kernel"] + begin[0] @ p["recurrent"] + p["bias"][None]),)
        elif name == "lstm":
            h, c = begin
            i, f, g, o = jnp.split(x_BD @ p["kernel"] + h @ p["recurrent"] + p["bias"][None], 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            new = (jax.nn.sigmoid(o) * jnp.tanh(c), c)
        else:
            (h,) = begin
            u, g = (
                jnp.split(x_BD @ p["kernel"] + p["bias"][None], 3, axis=-1),
                jnp.split(h @ p["recurrent"], 3, axis=-1),
            )
            r, z = jax.nn.sigmoid(u[0] + g[0]), jax.nn.sigmoid(u[1] + g[1])
            n = jnp.tanh(u[2] + r * (g[2] + p["bias_n"][None]))
            new = ((1 - z) * n + z * h,)
        after = jax.tree.map(lambda n, h: jnp.where(real_B[:, None], n, h), new, s)
        return after, jnp.where(real_B[:, None], new[0], 0)

    last, y = jax.lax.scan(step, state, (jnp.swapaxes(x, 0, 1), real.T, fresh.T))
    return jnp.swapaxes(y, 0, 1), last


@pytest.mark.parametrize("length", [L, 41])  # one chunk, and several with the last one filled up
@pytest.mark.parametrize("name", CELLS)
def test_gradients_of_cells_are_those_of_plain_autodiff(name, length):
    """Whether chunks are kept or run twice."""
    rows = 3 if length == L else 40
    slots = CELLS[name][3]
    with jax.enable_x64(True):
        _, p, *_ = arguments(name, "plain")
        x, real, fresh = draw(rows, length, D), RNG.random((rows, length)) > 0.3, RNG.random((rows, length)) > 0.7
        state, initial = (tuple(draw(rows, N) for _ in range(slots)) for _ in range(2))
        args = jax.tree.map(jnp.asarray, (x, p, state, initial))
        out = (draw(rows, length, N), tuple(draw(rows, N) for _ in range(slots)))

        def gradients(args, f):
            dot = lambda *a: sum(jnp.vdot(y, c) for y, c in zip(*map(jax.tree.leaves, a), strict=True))
            return jax.grad(lambda args: dot(f(name, *args, jnp.asarray(real), jnp.asarray(fresh)), out))(args)

        ways = plain, run, functools.partial(run, remat=True)
        wanted, *found = jax.jit(lambda args: [gradients(args, f) for f in ways])(args)
        for got in found:
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10), got, wanted)


def test_attend():
    H, K, S = 2, 4, 6
    q, k, v = draw(B, L, H, K), draw(B, S, H, K), draw(B, S, H, K)
    allowed = RNG.random((B, L, S)) > 0.5
    allowed[0, 2] = False
    wanted = np.zeros((B, L, H, K))
    for b, t, h in np.ndindex(B, L, H):
        seen = np.flatnonzero(allowed[b, t])
        if seen.size:
            scores = np.exp(k[b, seen, h] @ q[b, t, h] / np.sqrt(K))
            wanted[b, t, h] = scores @ v[b, seen, h] / scores.sum()
    args, attend = [np.float32(a) for a in (q, k, v)], jax.jit(attention.attend)
    np.testing.assert_allclose(attend(*args, allowed), wanted, rtol=2e-5, atol=2e-6)
    for dtype in (jnp.bfloat16, jnp.float16):
        low = attend(*(a.astype(dtype) for a in args), allowed)
        assert low.dtype == dtype
        np.testing.assert_allclose(np.float32(low), wanted, atol=0.03)
    # One triangle for all rows.
    triangle = np.tri(L, S, dtype=bool)[None]
    alike = attend(*args, np.repeat(triangle, B, axis=0))
    np.testing.assert_allclose(attend(*args, triangle), alike, rtol=1e-6, atol=1e-6)
    # A query that may see nothing passes no gradient, and large scores no NaN.
    summed = lambda q, k, v: attention.attend(q * 1e4, k, v, jnp.asarray(allowed)).sum()
    grads = jax.device_get(jax.jit(jax.grad(summed, argnums=(0, 1, 2)))(*args))
    assert all(np.isfinite(g).all() for g in grads) and not np.any(grads[0][0, 2])


def test_rotary():
    K = 6
    x, position = draw(B, L, 2, K), RNG.integers(0, 50, (B, L))
    wanted = np.zeros_like(x)
    for b, t, h, i in np.ndindex(B, L, 2, K // 2):
        turn = np.exp(1j * position[b, t] * 100.0 ** (-2 * i / K))
        z = turn * (x[b, t, h, i] + 1j * x[b, t, h, i + K // 2])
        wanted[b, t, h, i], wanted[b, t, h, i + K // 2] = z.real, z.imag
    x, frequency, rotary = np.float32(x), positions.frequencies(K, base=100.0), jax.jit(positions.rotary)
    y = rotary(x, position, frequency)
    np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(y, axis=-1), np.linalg.norm(x, axis=-1), rtol=1e-5)
    assert jax.eval_shape(rotary, x.astype("float16"), position, frequency).dtype == jnp.float16
    # Scores see differences of positions only.
    score = lambda shift: np.einsum("BLHK,BSHK->BHLS", *(np.asarray(rotary(x, position + shift, frequency)),) * 2)
    np.testing.assert_allclose(score(0), score(17), rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="odd head width"):
        positions.frequencies(3)


def test_scaled_frequencies():
    K, base, factor, trained = 16, 1000.0, 4.0, 100
    plain, ntk, yarn = (
        np.asarray(positions.frequencies(K, base, scaling, factor, trained)) for scaling in ("none", "ntk", "yarn")
    )
    for i in range(K // 2):
        np.testing.assert_allclose(plain[i], base ** (-2 * i / K), rtol=1e-5)
        turns = trained * plain[i] / (2 * np.pi)
        share = min(max((turns - 1) / 31, 0), 1)
        np.testing.assert_allclose(yarn[i], plain[i] * share + plain[i] / factor * (1 - share), rtol=1e-5)
    np.testing.assert_allclose(positions.frequencies(K, base, "linear", factor), plain / factor, rtol=1e-6)
    np.testing.assert_allclose([ntk[0], ntk[-1]], [1.0, plain[-1] / factor], rtol=1e-5)
    assert np.all(np.diff(ntk / plain) < 0) and yarn[-1] < plain[-1]


def test_sinusoidal():
    position, D = RNG.integers(0, 50, (B, L)), 5
    wanted = np.zeros((B, L, D))
    for b, t, i in np.ndindex(B, L, 3):
        angle = position[b, t] * 10000.0 ** (-2 * i / D)
        wanted[b, t, i] = np.sin(angle)
        if 3 + i < D:
            wanted[b, t, 3 + i] = np.cos(angle)
    np.testing.assert_allclose(jax.jit(positions.sinusoidal, static_argnums=1)(position, D), wanted, atol=1e-5)


def test_alibi():
    np.testing.assert_allclose(positions.alibi(8), [2.0**-h for h in range(1, 9)], rtol=1e-6)
    np.testing.assert_allclose(positions.alibi(1), [2.0**-8], rtol=1e-6)
    twelve = [2.0**-h for h in range(1, 9)] + [2.0**-h for h in (0.5, 1.5, 2.5, 3.5)]  # the paper's own rule
    np.testing.assert_allclose(positions.alibi(12), twelve, rtol=1e-6)


def test_relative_bucket():
    buckets, farthest = 8, 32
    distance = np.arange(-3, 60)
    wanted = []
    for d in np.maximum(distance, 0):
        wide = 4 + int(np.log(max(d, 4) / 4) / np.log(farthest / 4) * 4)
        wanted.append(d if d < 4 else min(wide, buckets - 1))
    got = jax.jit(positions.relative_bucket, static_argnums=(1, 2))(distance, buckets, farthest)
    np.testing.assert_array_equal(got, wanted)
    assert got.dtype == jnp.int32


def test_cross_entropy():
    logits, target = draw(B, L, 5) * 10, RNG.integers(0, 5, (B, L))
    wanted = np.zeros((B, L))
    for b, t in np.ndindex(B, L):
        wanted[b, t] = -np.log(np.exp(logits[b, t, target[b, t]]) / np.exp(logits[b, t]).sum())
    loss = jax.jit(losses.cross_entropy)
    got = loss(np.float32(logits), target)
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)
    assert jax.eval_shape(loss, logits.astype(jnp.bfloat16), target).dtype == jnp.float32
    huge = loss(np.float32([[1e4, 0.0], [0.0, 1e4]]), np.array([0, 0]))
    np.testing.assert_array_equal(huge, [0.0, 1e4])


@pytest.mark.parametrize("name", ["mean", "last", "maximum", "attention"])
def test_pooling(name):
    x, score, real = draw(B, L, D), draw(B, L), RNG.random((B, L)) > 0.4
    real[1] = False
    wanted = np.zeros((B, D))
    for b in range(B):
        rows = x[b, real[b]]
        if len(rows):
            weight = np.exp(score[b, real[b]])
            by_name = {
                "mean": rows.mean(0),
                "last": rows[-1],
                "maximum": rows.max(0),
                "attention": weight @ rows / weight.sum(),
            }
            wanted[b] = by_name[name]
    x = np.where(real[..., None], np.float32(x), np.float32(np.nan))  # what is masked does not count
    extra = (jnp.asarray(score, jnp.float32),) if name == "attention" else ()
    pool = lambda x: getattr(pooling, name)(x, *extra, jnp.asarray(real))

    @jax.jit
    def both(x):
        y, pull = jax.vjp(pool, x)
        return y, pull(jnp.ones_like(y))[0]

    got, slope = both(x)
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)
    assert not np.any(np.where(real[..., None], 0, slope))
    half = jax.eval_shape(pool, x.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16


ORACLES = {
    "scan": {"elman", "lstm", "gru"},
    # In test_cells.py.
    "cells": {"tanh", "relu", "layer_norm", "lstm", "lstm_projected", "gru", "gru_before", "mgu", "slstm"}
    | {"sru"},  # in mixers/test_diagonal.py
    "linear": {"diagonal", "in_chunk"},  # in test_linear.py and test_state_space.py
    "state_space": {"selective", "fixed"},  # in test_state_space.py
    "conv": {"depthwise", "full", "around"},  # in test_conv.py
    "linear_attention": {"attend", "taylor"},  # in test_linear_attention.py
    "matrix_state": {"delta", "run"},  # in test_matrix_state.py
    "mlstm": {"run"},  # in test_mlstm.py
    "attention": {"attend", "decode", "weigh", "weights"},  # in test_attention.py
    "gaussian": {
        "eliminate",
        "pack",
        "unpack",
        "covariance",
        "log_density",
        "filled",
        "diagonal",
        "moments",
        "product",
    },
    "scores": {"dot", "general", "unit", "additive", "location"},  # in test_scores.py
    "ring": {"devices", "spread", "by_chunk", "between", "pass_on"},  # what runs over them, in test_ring.py
    "positions": {"frequencies", "rotary", "sinusoidal", "alibi", "relative_bucket"},
    "interactive": {"attend", "weights"},  # in test_interactive_sums.py
    "decoder": set(),  # steps of `recur` only: in mixers/test_attention_rnn.py
    "dense": {"einsum"},  # in test_dense.py
    "losses": {
        "cross_entropy",
        "logits",
        "per_token",
        "classification",
    },  # in test_losses.py, tasks/test_classification.py
    "pooling": {"mean", "last", "maximum", "attention"},
    "chain": {"filter", "smooth", "log_likelihood", "viterbi", "weight", "sample", "n_best"},  # in test_chain.py
    "crf": {"log_likelihood", "decode", "n_best", "marginals"},  # in test_crf.py
    "spans": {"agree"},  # in test_agree.py
    "ngrams": {"count", "table", "joined", "look_up", "log_p"},  # in test_ngrams.py
    "smoothing": {"additive", "witten_bell", "stupid_backoff", "kneser_ney"},  # in test_ngrams.py
    "spectral": {"frame_count", "log_mel", "cepstrum", "deltas", "normalised"},  # in embed/test_frames.py
    "weights": {"softmax", "sigmoid", "hard", "sparsemax", "entmax"},  # test_weights.py
}


@pytest.mark.parametrize("name", lookup.names("seqjax.ops"))
def test_every_op_has_an_oracle(name):
    module = importlib.import_module(f"seqjax.ops.{name}")
    functions = inspect.getmembers(module, inspect.isfunction)
    public = {k for k, f in functions if not k.startswith("_") and f.__module__ == module.__name__}
    assert public == ORACLES[name]


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_against_torch(kind):
    torch = pytest.importorskip("torch")
    x, p, state, initial, _, _ = arguments(kind, "plain")
    layer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind](D, N, batch_first=True).double()
    bias_h = np.zeros_like(p["bias"])
    if kind == "gru":
        bias_h[2 * N :] = p["bias_n"]
    for ours, theirs in (
        (p["kernel"].T, layer.weight_ih_l0),
        (p["recurrent"].T, layer.weight_hh_l0),
        (p["bias"], layer.bias_ih_l0),
        (bias_h, layer.bias_hh_l0),
    ):
        theirs.data = torch.tensor(ours)
    first = tuple(torch.tensor(h)[None] for h in state)
    wanted, _ = layer(torch.tensor(x), first if kind == "lstm" else first[0])
    y, _ = run(kind, *jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), (x, p, state, initial)), None, None)
    np.testing.assert_allclose(y, wanted.detach().numpy(), rtol=1e-5, atol=1e-5)
