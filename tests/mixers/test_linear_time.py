"""Mixers with a matrix as state against the equations of their papers, as loops in numpy over each document.

Compared by hand, the whole mixer, float32, 200 tokens, largest difference over largest value: with Mamba2Mixer of
transformers 5.24.0 (torch 2.13.0) 4.1e-7; with HGRN2 of flash-linear-attention 0.6.0, which is GLA with k = 1 - exp(g)
(the lines of its layer, on its `naive.py`), lower bounds 0 and 0.3: values 6.3e-7 and gradients 1.2e-6. There q is
divided by sqrt(K), which the norm after it undoes but for its epsilon; here, and in the comparison, it is not.
"""

import functools

import jax
import numpy as np
import pytest
from activations import sigmoid, silu, softplus
from gradients import drawn, run

from seqjax.mixers.delta_net import DeltaNet
from seqjax.mixers.gated_delta_net import GatedDeltaNet
from seqjax.mixers.gla import GLA
from seqjax.mixers.hgrn2 import HGRN2
from seqjax.mixers.mamba2 import Mamba2
from seqjax.mixers.mlstm import MLSTM
from seqjax.mixers.retnet import RetNet
from seqjax.mixers.rwkv7 import RWKV7

pytestmark = pytest.mark.usefixtures("compile_once")

RNG = np.random.default_rng(0)
B, L, D, H = 2, 9, 8, 2
X = np.float32(RNG.normal(size=(B, L, D)))
REAL, FRESH = RNG.random((B, L)) > 0.3, RNG.random((B, L)) > 0.7


def norm(x, eps=1e-5):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps)


def unit(x):
    return x / np.sqrt((x**2).sum(-1, keepdims=True) + 1e-6)


def heads(x):
    return x.reshape(len(x), H, -1)


def conv(x, p):
    """silu of the convolution of one document, (n, M)."""
    W = len(p["filter"])
    padded = np.concatenate([np.zeros((W - 1, x.shape[1])), x])
    return silu(sum(p["filter"][j] * padded[j : j + len(x)] for j in range(W)) + p.get("bias", 0))


def scan(step, K, V, *tokens):
    """step(S, token) -> S, y, per token of one document and per head."""
    S, ys = np.zeros((H, K, V)), []
    for token in zip(*tokens, strict=True):
        both = [step(S[h], *(a[h] for a in token)) for h in range(H)]
        S = np.stack([one for one, _ in both])
        ys.append([y for _, y in both])
    return np.array(ys)


def write(S, q, k, v, g):
    S = np.exp(g)[:, None] * S + np.outer(k, v)
    return S, S.T @ q


def overwrite(S, q, k, v, g, beta):
    S = np.exp(g) * S
    S = S + beta * np.outer(k, v - S.T @ k)
    return S, S.T @ q


def gla(p, x):
    q, k, v, z = np.split(x @ p["inputs"]["kernel"], [4, 8, 16], axis=-1)
    gate = x @ p["low"]["kernel"] @ p["gates"] + p["bias"]
    y = scan(write, 2, 4, heads(q) / 2**0.5, heads(k), heads(v), heads(np.log(sigmoid(gate)) / 16))
    return (norm(y) * p["scale"]).reshape(len(x), -1) * silu(z) @ p["out"]["kernel"]


def delta_net(p, x, most=1.0):
    q, k, v = map(heads, np.split(conv(x @ p["inputs"]["kernel"], p), 3, axis=-1))
    beta = most * sigmoid(x @ p["gates"])
    y = scan(overwrite, 4, 4, unit(q) / 2, unit(k), v, 0 * beta, beta)
    return (norm(y) * p["scale"]).reshape(len(x), -1) @ p["out"]["kernel"]


def gated_delta_net(p, x):
    qkv, z = np.split(x @ p["inputs"]["kernel"], [32], axis=-1)
    q, k, v = map(heads, np.split(conv(qkv, p), [8, 16], axis=-1))
    beta, dt = np.split(x @ p["gates"], 2, axis=-1)
    g = -np.exp(p["rate"]) * softplus(dt + p["bias_dt"])
    y = scan(overwrite, 4, 8, unit(q) / 2, unit(k), v, g, 2 * sigmoid(beta))
    return (norm(y) * p["scale"]).reshape(len(x), -1) * silu(z) @ p["out"]["kernel"]


def hgrn2(p, x):
    q, v = map(heads, np.split(x @ p["inputs"]["kernel"], 2, axis=-1))
    f = 0.2 + 0.8 * sigmoid(heads(x @ p["gates"]))
    y = scan(write, 4, 4, silu(q), 1 - f, v, np.log(f))
    return norm(y.reshape(x.shape)) * p["scale"] @ p["out"]["kernel"]


def mamba2(p, x):
    z, ubc = np.split(x @ p["inputs"]["kernel"], [16], axis=-1)
    u, b, c = np.split(conv(ubc, p), [16, 19], axis=-1)
    dt = softplus(x @ p["gates"] + p["bias_dt"])
    both = lambda a: np.repeat(a[:, None], H, axis=1)
    y = scan(write, 3, 8, both(c), both(b), dt[..., None] * heads(u), -np.exp(p["rate"])[:, None] * dt[..., None])
    y = (y + p["skip"][:, None] * heads(u)).reshape(z.shape) * silu(z)
    return norm(y) * p["scale"] @ p["out"]["kernel"]


def mlstm(p, x):
    i, f = np.split(x @ p["gates"], 2, axis=-1)
    return matrix_memory(p, x, conv(x, p), np.exp(i + p["bias_i"]), sigmoid(f + p["bias_f"]))


def mlstm_7b(p, x):
    i, f = np.split(x @ p["gates"], 2, axis=-1)
    capped = lambda z: sigmoid(2 * np.tanh(z / 2))
    return matrix_memory(p, x, silu(x), capped(i + p["bias_i"]), capped(f + p["bias_f"]))


def matrix_memory(p, x, u, i, f):
    q, k = map(heads, np.split(u @ p["qk"]["kernel"], 2, axis=-1))
    v, o = np.split(x @ p["vo"]["kernel"], 2, axis=-1)

    def step(C, q, k, v, i, f):
        C = f * C + i * np.outer(k / np.sqrt(len(k)), [*v, 1])
        y = C.T @ q
        return C, y[:-1] / max(abs(y[-1]), 1)

    y = scan(step, q.shape[-1], 5, q, k, heads(v), i, f)
    return (norm(y) * p["scale"]).reshape(x.shape) * sigmoid(o) @ p["out"]["kernel"]


def retnet(p, x):
    q, k, v, z = np.split(x @ p["inputs"]["kernel"], [8, 16, 32], axis=-1)
    turn = np.exp(1j * np.arange(len(x))[:, None] * 10_000.0 ** -np.array([0, 0.5]))[:, None]

    def rotary(a):
        pair = (heads(a)[..., :2] + 1j * heads(a)[..., 2:]) * turn
        return np.concatenate([pair.real, pair.imag], axis=-1)

    g = np.broadcast_to(np.log(1 - 2.0 ** -np.array([5, 6]))[:, None], (len(x), H, 1))
    y = scan(write, 4, 8, rotary(q) / 2, rotary(k), heads(v), g)
    return norm(y).reshape(z.shape) * silu(z) @ p["out"]["kernel"]


def rwkv7(p, x):
    before = np.concatenate([np.zeros((1, D)), x[:-1]])
    mixed = [x + (before - x) * m for m in p["shift"]]
    r, k, v = (a @ kernel for a, kernel in zip(mixed[:3], p["rkv"], strict=True))
    w, a, z = (a @ kernel for a, kernel in zip(mixed[3:], p["down"], strict=True))
    g = -np.exp(-0.5) * sigmoid(p["bias_decay"] + np.tanh(w) @ p["decay"])
    a = sigmoid(p["bias_rate"] + a @ p["rate"])
    kappa, k = unit(heads(k * p["xi"])), k * (1 + (a - 1) * p["alpha"])
    r, k, v, a, g = map(heads, (r, k, v, a, g))

    def step(S, r, k, v, kappa, a, g):
        S = np.exp(g)[:, None] * S - np.outer(a * kappa, S.T @ kappa) + np.outer(k, v)
        return S, S.T @ r

    y = scan(step, 4, 4, r, k, v, kappa, a, g)
    y = norm(y - y.mean(-1, keepdims=True), 64e-5).reshape(x.shape) * p["scale"] + p["bias"]
    y = y + ((r * p["rho"] * k).sum(-1, keepdims=True) * v).reshape(x.shape)
    return y * (sigmoid(z) @ p["gates"]) @ p["out"]["kernel"]


def by_document(f, params):
    """f(params, x) of the real tokens of each document."""
    y = np.zeros((B, L, D))
    for row in range(B):
        places, starts = np.flatnonzero(REAL[row]), FRESH[row][REAL[row]]
        for document in np.split(places, np.flatnonzero(starts)):
            if len(document):
                y[row, document] = f(params, X[row, document].astype("float64"))
    return y


MIXERS = [
    (GLA, gla, dict(gate_rank=3)),
    (DeltaNet, delta_net, dict(conv_width=3)),
    (GatedDeltaNet, gated_delta_net, dict(conv_width=3, beta_max=2.0)),
    (HGRN2, hgrn2, dict(lower_bound=0.2)),
    (Mamba2, mamba2, dict(conv_width=3, state_size=3)),
    (MLSTM, mlstm, dict(conv_width=3)),
    (MLSTM, mlstm_7b, dict(conv_width=0, qk_factor=0.5, soft_cap=2.0, input_gate="sigmoid")),
    (RetNet, retnet, {}),
    (RWKV7, rwkv7, dict(rank=3)),
]


@pytest.mark.parametrize(("mixer", "equations", "options"), MIXERS)
def test_a_mixer_follows_its_equations(mixer, equations, options):
    module = mixer(width=D, heads=H, **options)
    params = drawn(module, X)
    y, _ = run(module, params, X, mask_BL=REAL, reset_BL=FRESH)
    wanted = by_document(equations, jax.tree.map(np.float64, params["params"]))
    np.testing.assert_allclose(y, wanted, rtol=2e-4, atol=2e-4 * np.abs(wanted).max())


def weights(module, params):
    _, found = run(module, params, X, None, mask_BL=REAL, reset_BL=FRESH, mutable="intermediates")
    return found["intermediates"]["weights"][0]


@pytest.mark.parametrize("mixer", [GLA, GatedDeltaNet, MLSTM], ids=lambda mixer: mixer.__name__)
def test_weights_are_those_of_real_earlier_tokens_of_the_document(mixer):
    module = mixer(width=D, heads=H)
    weight = weights(module, drawn(module, X))
    document = np.cumsum(FRESH & REAL, axis=1)
    seen = (document[:, :, None] == document[:, None]) & np.tri(L, dtype=bool) & REAL[:, :, None] & REAL[:, None]
    assert weight.shape == (B, H, L, L) and not np.any(np.where(seen[:, None], 0, weight))
    assert np.all(np.any(weight, axis=1) | ~seen)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (functools.partial(GLA, width=8, heads=3), "heads=3 does not divide model.width=8"),
        (functools.partial(GLA, width=6, heads=2), "such that 2 \\* heads divides model.width=6"),
        (functools.partial(RetNet, width=6, heads=2), "the head width is 3, an odd number"),
        (functools.partial(DeltaNet, width=8, conv_width=1), "choose 0 for no convolution, or at least 2"),
        (functools.partial(DeltaNet, width=8, beta_max=2.5), "beta_max"),
        (functools.partial(MLSTM, width=8, heads=2, qk_factor=0.3), "qk_factor=0.3 makes q and k 1.2 wide"),
    ],
)
def test_what_does_not_fit_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
