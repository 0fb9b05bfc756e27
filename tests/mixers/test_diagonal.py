"""Mixers on the diagonal recurrence against the equations of their papers, one token after the other in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.mixers.hgrn import HGRN
from seqjax.mixers.min_lstm import MinLSTM
from seqjax.mixers.s5 import S5
from seqjax.mixers.sru import SRU

RNG = np.random.default_rng(0)
B, L, D = 3, 7, 8


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def silu(z):
    return z * sigmoid(z)


def softplus(z):
    return np.log1p(np.exp(z))


# ---- One token of one row: (parameters, x_t, the state before it) -> y_t and the state after it.


def min_lstm(p, x, h):
    f, i, n = np.split(x @ p["inputs"]["kernel"] + p["inputs"]["bias"], 3)
    f, i = sigmoid(f), sigmoid(i)
    h = f / (f + i) * h + i / (f + i) * n
    return h, h


def hgrn(p, x, h, least=0.0):
    f, i, g = np.split(x @ p["inputs"]["kernel"], 3)
    f = least + (1 - least) * sigmoid(f)
    h = f * h + (1 - f) * silu(i)
    normed = h / np.sqrt(np.mean(h**2) + 1e-6) * p["norm"]["scale"]
    return (normed * silu(g)) @ p["out"]["kernel"], h


def hgrn_of_both_signs(p, x, h):
    return hgrn(p, x, h, -1.0)


def sru(p, x, c, highway_bias=-1.0):
    w, f, r = np.split(x @ p["inputs"]["kernel"], 3)
    (b_f, b_r), (v_f, v_r) = np.split(p["bias"], 2), np.split(p.get("v", np.zeros(2 * D)), 2)
    f, r = sigmoid(f + v_f * c + b_f), sigmoid(r + v_r * c + b_r)
    c = f * c + (1 - f) * w
    return r * c + (1 - r) * np.sqrt(1 + 2 * np.exp(highway_bias)) * x, c


def s5_layer(p, x, h):
    b_re, b_im = np.split(p["inputs"]["kernel"], 2, axis=1)
    c_re, c_im = np.split(p["outputs"]["kernel"] / 2, 2, axis=0)
    rate = np.minimum(p["real"], -1e-4) + 1j * p["imaginary"]
    a = np.exp(softplus(p["dt"]) * rate)
    h = a * (h[0] + 1j * h[1]) + (a - 1) / rate * (x @ (b_re + 1j * b_im))
    return 2 * (h @ (c_re - 1j * c_im)).real + p["skip"] * x, (h.real, h.imag)


ORACLES = {
    "min_lstm": (MinLSTM(width=D), min_lstm),
    "hgrn": (HGRN(width=D), hgrn),
    "hgrn of both signs": (HGRN(width=D, lower_bound=-1.0), hgrn_of_both_signs),
    "sru": (SRU(width=D, highway_bias=-1.0), sru),
    "sru without peepholes": (SRU(width=D, highway_bias=-1.0, peepholes=False), sru),
    "s5": (S5(width=D, state_size=6, blocks=2), s5_layer),
}


def over(step, p, x, state, real, fresh):
    """The definition of masks and resets: a masked token is skipped, a reset begins with an empty state."""
    y, state = np.zeros_like(x), jax.tree.map(np.copy, state)
    for row, t in np.argwhere(real):
        before = jax.tree.map(lambda a, row=row, t=t: 0 * a[row] if fresh[row, t] else a[row], state)
        y[row, t], after = step(p, x[row, t], before)
        jax.tree.map(lambda a, new, row=row: a.__setitem__(row, new), state, after)
    return y, state


@pytest.mark.parametrize("name", ORACLES)
def test_mixers_follow_their_equations(name):
    module, step = ORACLES[name]
    draw = lambda *shape: RNG.normal(size=shape)
    x, real, fresh = draw(B, L, D), RNG.random((B, L)) > 0.3, RNG.random((B, L)) > 0.6
    state = jax.tree.map(lambda s: draw(*s.shape), module.init_state(B))
    params = jax.tree.map(lambda p: np.float64(p) + 0.3 * draw(*p.shape), initial(module))
    as_jax = jax.tree.map(jnp.float32, (params, x, state))
    apply = jax.jit(lambda params, x, state: module.apply({"params": params}, x, state, mask_BL=real, reset_BL=fresh))
    got, wanted = apply(*as_jax), over(step, params, x, state, real, fresh)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=2e-5, atol=2e-5), got, wanted)


def initial(module):
    return jax.device_get(jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 1, module.width)))["params"])
