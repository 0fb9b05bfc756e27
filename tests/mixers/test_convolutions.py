"""Convolutions and wrappers against their equations, as loops in numpy over the real tokens of each document.

By hand against a TCN of torch 2.13.0 (CPU; `Conv1d` with `parametrizations.weight_norm`), float32, three levels:
outputs (up to 4.0) and gradients of the input are at most 4.8e-7 apart, gradients of parameters (up to 26) at most
3.9e-6.
"""

import functools

import jax
import numpy as np
import pytest
from activations import sigmoid, silu
from gradients import drawn, init, run

from seqjax.mixers.cnn import CNN
from seqjax.mixers.gated import Gated
from seqjax.mixers.gated_conv import GatedConv
from seqjax.mixers.gru import GRU
from seqjax.mixers.hyena import Hyena
from seqjax.mixers.min_gru import MinGRU
from seqjax.mixers.parallel import Parallel
from seqjax.mixers.rcnn import RCNN
from seqjax.mixers.rnn import Elman
from seqjax.mixers.short_conv import ShortConv
from seqjax.mixers.tcn import TCN
from seqjax.mixers.token_shift import TokenShift

pytestmark = pytest.mark.usefixtures("compile_once")

RNG = np.random.default_rng(0)
B, L, D = 2, 9, 8
X = np.float32(RNG.normal(size=(B, L, D)))
REAL, FRESH = RNG.random((B, L)) > 0.3, RNG.random((B, L)) > 0.7


def dense(x, p):
    return x @ p["kernel"] + p.get("bias", 0)


def causal(x, w, dilation=1):
    """sum_j w_j x_(t - j dilation), w[-1] for the token itself; w (W, D) or (W, D, E)."""
    x = np.concatenate([np.zeros(((len(w) - 1) * dilation, x.shape[1])), x])
    product = np.multiply if w.ndim == 2 else np.matmul
    taps = [product(x[j * dilation :][: len(x) - (len(w) - 1) * dilation], w[j]) for j in range(len(w))]
    return sum(taps)


def before(h):
    return np.concatenate([np.zeros_like(h[:1]), h[:-1]])


def min_gru(x, p):
    z, n = np.split(dense(x, p["inputs"]), 2, axis=-1)
    h = [np.zeros(n.shape[1])]
    for z_t, n_t in zip(sigmoid(z), n, strict=True):
        h.append((1 - z_t) * h[-1] + z_t * n_t)
    return np.array(h[1:])


def elman(x, p):
    h = [np.zeros(D)]
    for x_t in x:
        h.append(np.tanh(dense(x_t, p) + h[-1] @ p["recurrent"]))
    return np.array(h[1:])


def short_conv(x, p):
    return min_gru(silu(causal(x, p["filter"]) + p["bias"]), p["inner"])


def token_shift(x, p):
    return min_gru(x + p["mix"] * (before(x) - x), p["inner"])


def gated_conv(x, p, f=lambda v: v):
    gate, v = np.split(dense(x, p["inputs"]), 2, axis=-1)
    return f(gate) * (causal(v, p["filter"]) + p["bias"])


def gated_linear_units(x, p):
    gate, v = np.split(causal(x, p["kernel"]) + p["bias"], 2, axis=-1)
    return sigmoid(gate) * v


def tcn(x, p, levels=3):
    def convolve(x, p, dilation):
        length = np.sqrt((p["kernel"] ** 2).sum(axis=(0, 1)))
        return np.maximum(causal(x, p["kernel"] * p["scale"] / length, dilation) + p["bias"], 0)

    for i in range(levels):
        first, second = (p[f"convolutions_{2 * i + j}"] for j in range(2))
        x = np.maximum(x + convolve(convolve(x, first, 2**i), second, 2**i), 0)
    return x


def gated(x, p):
    u, gate = np.split(dense(x, p["inputs"]), 2, axis=-1)
    return dense(min_gru(u, p["inner"]) * silu(gate), p["out"])


def parallel(x, p):
    ys = [min_gru(x, p["mixers_0"]), elman(x, p["mixers_1"])]
    root = lambda y: np.sqrt((y**2).mean(axis=-1, keepdims=True) + 1e-6)
    return dense(sum(y / root(y) * p[f"norms_{i}"]["scale"] for i, y in enumerate(ys)) / 2, p["out"])


def cnn(x, p):
    found = []
    for i, k in enumerate((2, 3, 4)):
        padded = np.concatenate([np.zeros((k // 2, D)), x, np.zeros((k, D))])
        found.append(sum(padded[j : j + len(x)] @ p[f"kernel_{i}"][j] for j in range(k)))
    return np.maximum(np.concatenate(found, axis=-1) + p["bias"], 0)


def rcnn(x, p):
    left, right = before(elman(x, p["forward"])), before(elman(x[::-1], p["backward"]))[::-1]
    return np.tanh(dense(np.concatenate([left, x, right], axis=-1), p["out"]))


def hyena(x, p, order=3, length=5, bands=2):
    t = np.arange(length) / length
    angle = 2 * np.pi * t[:, None] * np.linspace(1e-4, bands - 1, bands)
    h, q = np.concatenate([t[:, None], np.cos(angle), -np.sin(angle)], axis=1), p["filters"]
    for i in range(3):
        h = np.sin(q["speed"] * dense(h, q[f"layers_{i}"]))
    decay = np.linspace(np.log(0.01) / 1.5, np.log(0.01) / 0.3, (order - 1) * D)
    h = (dense(h, q["out"]) * np.exp(decay * t[:, None])).reshape(length, order - 1, D)
    *gates, z = np.split(causal(dense(x, p["inputs"]), p["short"]) + p["bias"], order + 1, axis=-1)
    for i in range(order - 1):
        z = z * gates[order - 1 - i]
        z = causal(z, h[::-1, i]) + p["skip"].reshape(-1, D)[i] * z
    return dense(gates[0] * z, p["out"])


ORACLES = {
    "short_conv": (ShortConv(width=D, mixer=MinGRU), short_conv),
    "token_shift": (TokenShift(width=D, mixer=MinGRU), token_shift),
    "gated_conv": (GatedConv(width=D), gated_conv),
    "gated_conv sigmoid": (GatedConv(width=D, activation="sigmoid"), functools.partial(gated_conv, f=sigmoid)),
    "gated_conv silu": (GatedConv(width=D, activation="silu"), functools.partial(gated_conv, f=silu)),
    "gated_conv full": (GatedConv(width=D, activation="sigmoid", depthwise=False), gated_linear_units),
    "tcn": (TCN(width=D, levels=3), tcn),
    "hyena": (Hyena(width=D, order=3, filter_length=5, filter_width=4, bands=2), hyena),
    "gated": (Gated(width=D, mixer=MinGRU, expansion=1.5, activation="silu"), gated),
    "parallel": (Parallel(width=D, mixer=(MinGRU, Elman)), parallel),
    "cnn": (CNN(width=D, kernel_sizes=(2, 3, 4)), cnn),
    "rcnn": (RCNN(width=D), rcnn),
}


@pytest.mark.parametrize("name", ORACLES)
def test_mixers_follow_their_equations(name):
    """Each document by itself; and in chunks shorter than what the convolutions reach, if there is a state."""
    module, oracle = ORACLES[name]
    params, wanted = drawn(module, X), np.zeros(X.shape)
    exact = jax.tree.map(np.float64, params["params"])
    for row in range(B):
        document_L = np.cumsum(FRESH[row] & REAL[row])
        for number in np.unique(document_L[REAL[row]]):
            places = np.flatnonzero((document_L == number) & REAL[row])
            wanted[row, places] = oracle(np.float64(X[row, places]), exact)
    got, _ = run(module, params, X, mask_BL=REAL, reset_BL=FRESH)
    np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-5)
    if module.causal:
        state = jax.device_get(module.init_state(B))
        for chunk in np.split(np.arange(L), 3):
            flags = dict(mask_BL=REAL[:, chunk], reset_BL=FRESH[:, chunk])
            got, state = run(module, params, X[:, chunk], state, **flags)
            np.testing.assert_allclose(got, wanted[:, chunk], rtol=2e-5, atol=2e-5)


def test_weight_normalisation_starts_at_the_weights():
    plain, normed = (TCN(width=D, levels=1, weight_norm=it) for it in (False, True))
    params = init(normed, X)
    without = jax.tree.map(lambda a: a, params)
    for one in without["params"].values():
        del one["scale"]
    np.testing.assert_allclose(run(normed, params, X)[0], run(plain, without, X)[0], atol=1e-6)


def test_dropout_of_a_tcn_is_drawn():
    module = TCN(width=D, levels=1, dropout=0.5)
    params, keys = init(module, X), [dict(dropout=jax.random.key(i)) for i in range(2)]
    one, other = (run(module, params, X, deterministic=False, rngs=key)[0] for key in keys)
    assert np.any(one != other)
    assert np.any(one != run(module, params, X)[0])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (functools.partial(ShortConv, kernel_size=0), "kernel_size: got 0, wanted an int of at least 1"),
        (functools.partial(GatedConv, kernel_size=10**6), "kernel_size: got 1000000, wanted an int of .* at most 256"),
        (functools.partial(TCN, levels=64), "levels: got 64, wanted an int of at least 1 and at most 16"),
        (
            functools.partial(CNN, kernel_sizes=()),
            r"kernel_sizes has 0 widths, and model\.width=8 .* at least one width",
        ),
        (functools.partial(CNN, kernel_sizes=(1,) * 9), "has 9 widths, .* at most one per feature"),
        (functools.partial(CNN, kernel_sizes=(3, 0)), r"kernel_sizes: got \(3, 0\), wanted a list, each an int of at"),
        (functools.partial(Parallel, mixer=()), r"mixer\.mixer is an empty list: give at least one mixer"),
        (
            functools.partial(Gated, expansion=0.1),
            r"expansion=0\.1 times model\.width=8 is less than one feature: raise",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make(width=D)


def test_a_wrapper_has_the_properties_of_its_parts():
    for wrap in (ShortConv, TokenShift, Gated, Parallel):
        assert wrap(width=D, mixer=MinGRU).cuttable and not wrap(width=D, mixer=GRU).cuttable
        assert not wrap(width=D, mixer=CNN).causal
        with pytest.raises(ValueError, match="CNN sees later tokens and has no state"):
            wrap(width=D, mixer=CNN).init_state(B)
