"""Mixers on the diagonal recurrence against the equations of their papers, one token after the other in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from activations import sigmoid, silu, softplus

from seqjax.mixers import s5
from seqjax.mixers.hgrn import HGRN
from seqjax.mixers.mamba import Mamba
from seqjax.mixers.min_lstm import MinLSTM
from seqjax.mixers.qrnn import QRNN
from seqjax.mixers.s4d import S4D
from seqjax.mixers.s5 import S5
from seqjax.mixers.sru import SRU

RNG = np.random.default_rng(0)
B, L, D = 3, 7, 8


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


def tail(kept, x):
    """The taps of a convolution, oldest first, and what it keeps of them."""
    taps = np.concatenate([kept, x[None]])
    return taps, taps[1:]


def qrnn(p, x, state):
    taps, kept = tail(state[0], x)
    z, f, o = np.split(np.einsum("WD,WDM->M", taps, p["filter"]) + p["bias"], 3)
    c = sigmoid(f) * state[1] + (1 - sigmoid(f)) * np.tanh(z)
    return sigmoid(o) * c, (kept, c)


def s4d(p, x, h):
    rate = -np.exp(p["rate"]) + 1j * p["frequency"]
    a = np.exp(softplus(p["dt"]) * rate)
    h = a * (h[0] + 1j * h[1]) + x
    c = p["c"][0] + 1j * p["c"][1]
    u = 2 * (c * (a - 1) / rate * h).real.sum(axis=0) + p["skip"] * x
    gelu = u / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (u + 0.044715 * u**3)))
    v, w = np.split(gelu @ p["out"]["kernel"] + p["out"]["bias"], 2)
    return v * sigmoid(w), (h.real, h.imag)


def mamba(p, x, state, signed=False):
    N, R = len(p["rate"]), len(p["kernel_dt"])
    u, z = np.split(x @ p["inputs"]["kernel"], 2)
    taps, kept = tail(state[0], u)
    u = silu(np.sum(taps * p["filter"], axis=0) + p["bias"])
    dt, b, c = np.split(u @ p["choice"]["kernel"], [R, R + N])
    dt = softplus(dt @ p["kernel_dt"] + p["bias_dt"])
    a = np.exp(-np.exp(p["rate"]) * dt)
    h = (2 * a - 1 if signed else a) * state[1] + np.outer(b, dt * u)
    return ((c @ h + p["skip"] * u) * silu(z)) @ p["out"]["kernel"], (kept, h)


def mamba_of_both_signs(p, x, state):
    return mamba(p, x, state, signed=True)


ORACLES = {
    "min_lstm": (MinLSTM(width=D), min_lstm),
    "hgrn": (HGRN(width=D), hgrn),
    "hgrn of both signs": (HGRN(width=D, lower_bound=-1.0), hgrn_of_both_signs),
    "sru": (SRU(width=D, highway_bias=-1.0), sru),
    "sru without peepholes": (SRU(width=D, highway_bias=-1.0, peepholes=False), sru),
    "qrnn": (QRNN(width=D, conv_width=3), qrnn),
    "s4d": (S4D(width=D, state_size=3), s4d),
    "s5": (S5(width=D, state_size=6, blocks=2), s5_layer),
    "mamba": (Mamba(width=D, state_size=3, rank=2), mamba),
    "mamba of both signs": (Mamba(width=D, state_size=3, expansion=1, signed=True), mamba_of_both_signs),
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
    """Compared by hand with other libraries, too: width 64, 50 tokens, float32; differences relative to the largest.

    Mamba: values 1.8e-7 and gradients 5.3e-7 from transformers 5.24.0 and mambapy 1.2.0 (torch 2.13.0). minLSTM with
    positive candidates: values 2.3e-6 from minGRU-pytorch 0.2.1, which computes in the logarithm. The recurrence
    of HGRN, 200 tokens: 7.9e-8 from `naive.py` of flash-linear-attention 0.6.0.
    """
    module, step = ORACLES[name]
    draw = lambda *shape: RNG.normal(size=shape)
    x, real, fresh = draw(B, L, D), RNG.random((B, L)) > 0.3, RNG.random((B, L)) > 0.6
    state = jax.tree.map(lambda s: draw(*s.shape), jax.eval_shape(lambda: module.init_state(B)))
    params = jax.tree.map(lambda p: np.float64(p) + 0.3 * draw(*p.shape), initial(module))
    as_jax = jax.tree.map(np.float32, (params, x, state))
    apply = jax.jit(lambda params, x, state: module.apply({"params": params}, x, state, mask_BL=real, reset_BL=fresh))
    got, wanted = apply(*as_jax), over(step, params, x, state, real, fresh)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=2e-5, atol=2e-5), got, wanted)


# ---- Where they start.


def initial(module):
    return jax.device_get(jax.jit(module.init)(jax.random.key(0), np.zeros((1, 1, module.width), np.float32)))["params"]


def spreads(values, low, high):
    """Whether values are uniform between two bounds."""
    quantiles = [0, 0.25, 0.5, 0.75, 1]
    np.testing.assert_allclose((np.quantile(values, quantiles) - low) / (high - low), quantiles, atol=0.05)


def test_steps_start_between_a_thousandth_and_a_tenth():
    for module in (Mamba(width=1000, state_size=1), S4D(width=2000, state_size=1)):
        p = initial(module)
        spreads(np.log(softplus(np.float64(p.get("bias_dt", p.get("dt"))))), np.log(1e-3), np.log(0.1))


def test_state_spaces_start_as_their_papers_say():
    p = initial(Mamba(width=32, state_size=4))
    np.testing.assert_allclose(np.exp(p["rate"]), np.arange(1, 5)[:, None] * np.ones(64), rtol=1e-6)
    assert p["kernel_dt"].shape == (2, 64) and np.all(p["skip"] == 1)
    p = initial(S4D(width=2, state_size=4))
    np.testing.assert_allclose(np.exp(p["rate"]), 0.5, rtol=1e-6)
    np.testing.assert_allclose(p["frequency"], np.pi * np.arange(4)[:, None] * np.ones(2), rtol=1e-6)


def test_s5_starts_as_a_memory_of_legendre_polynomials():
    """Its eigenvalues and their conjugates are those of the normal part of HiPPO-LegS, whose basis B starts in."""
    N, M = 3, 6
    root = np.sqrt(2 * np.arange(M) + 1)
    legs = -np.tril(np.outer(root, root), -1) - np.diag(np.arange(M) + 1)
    rate, basis = s5.hippo(N)
    found = np.concatenate([rate, rate.conj()])
    np.testing.assert_allclose(np.sort(found.imag), np.sort(np.linalg.eigvals(legs + np.outer(root, root) / 2).imag))
    both = np.concatenate([basis, basis.conj()], axis=1)
    np.testing.assert_allclose(both * found @ both.conj().T, legs + np.outer(root, root) / 2, atol=1e-12)
    p = initial(S5(width=200, state_size=4 * N, blocks=4))
    np.testing.assert_allclose(p["imaginary"], np.tile(rate.imag, 4), rtol=1e-5)
    real, imaginary = np.split(p["inputs"]["kernel"], 2, axis=1)
    np.testing.assert_allclose(np.mean(real**2 + imaginary**2), 1 / 200, rtol=0.1)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(p))


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"mixer\.blocks=3 does not divide the 4 states .* choose"):
        S5(width=8, blocks=3)
    for name, wrong, wanted in (
        ("conv_width", 1, "an int of at least 2 and at most 256"),
        ("rank", 0, "an int of at least 1, or None"),
    ):
        with pytest.raises(ValueError, match=f"{name}: got {wrong}, wanted {wanted}"):
            Mamba(width=8, **{name: wrong})
    with pytest.raises(ValueError, match=r"lower_bound: got 1\.0, wanted a float of at least -1 and below 1"):
        HGRN(width=8, lower_bound=1.0)


@pytest.mark.parametrize(
    "module", [HGRN(width=1, lower_bound=-1.0), Mamba(width=1, signed=True)], ids=["hgrn", "mamba"]
)
def test_a_token_can_change_the_sign_of_the_state(module):
    """So can parity be computed: a decay of -1 is in reach, and no logarithm is taken of it."""
    p = jax.tree.map(np.ones_like, initial(module))
    x = np.full((1, 1, 1), 30.0 if isinstance(module, Mamba) else -30.0, np.float32)
    state = jax.tree.map(lambda s: np.ones(s.shape, s.dtype), jax.eval_shape(lambda: module.init_state(1)))
    if isinstance(module, Mamba):
        p["choice"]["kernel"][:, 1 : 1 + module.state_size] = 0  # nothing is written
    _, after = jax.jit(module.apply)({"params": p}, x, state)
    np.testing.assert_allclose(jax.tree.leaves(after)[-1], -1, atol=1e-3)


@pytest.mark.parametrize("gates", [-1e3, 1e3])
def test_the_gates_of_the_min_lstm_may_all_shut(gates):
    """f / (f + i) is then 0 / 0; half of the state stays, and no gradient is NaN."""
    module, x = MinLSTM(width=2), np.ones((1, 1, 2), np.float32)
    p = jax.tree.map(np.zeros_like, initial(module))
    p["inputs"]["bias"][:4] = gates

    @jax.jit
    def both(p, x):
        y, pull = jax.vjp(lambda p, x: module.apply({"params": p}, x, jnp.ones((1, 2)))[1], p, x)
        return y, pull(y)

    state, slopes = both(p, x)
    np.testing.assert_allclose(state, 0.5, rtol=1e-6)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(slopes))
