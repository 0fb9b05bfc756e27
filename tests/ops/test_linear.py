"""The linear recurrence against a loop in numpy, and the mixers built on it against their equations.

Run as a script in a process that simulates eight devices, it prints what is inside the loops of compiled programs.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hlo import eight_devices, report

from seqjax import lookup
from seqjax.mixers.lru import LRU
from seqjax.mixers.min_gru import MinGRU
from seqjax.mixers.rg_lru import RGLRU
from seqjax.ops import linear

RNG = np.random.default_rng(0)
B, L, N = 3, 7, 4
LAYOUTS = ["plain", "mask", "reset", "mask+reset"]
METHODS = ["auto", "scan", "associative"]


def loop(a, b, h, real, fresh):
    h, y = h.copy(), np.zeros_like(b)
    for row, t in np.ndindex(a.shape[:2]):
        if real is None or real[row, t]:
            before = 0 if fresh is not None and fresh[row, t] else h[row]
            y[row, t] = h[row] = a[row, t] * before + b[row, t]
    return y, h


def draw(*shape, kind="real"):
    part = lambda: RNG.normal(size=shape) * 0.7
    return part() + 1j * part() if kind == "complex" else part()


def arguments(layout, kind, length=L):
    real = RNG.random((B, length)) > 0.3 if "mask" in layout else None
    fresh = RNG.random((B, length)) > 0.6 if "reset" in layout else None
    return *(draw(*shape, kind=kind) for shape in ((B, length, N), (B, length, N), (B, N))), real, fresh


def narrow(*arrays):
    """float64 and complex128 -> what JAX takes by default."""
    return tuple(jnp.asarray(a, jnp.complex64 if np.iscomplexobj(a) else jnp.float32) for a in arrays)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["real", "complex"])
def test_values(kind, method):
    """All layouts in one program."""
    calls = [arguments(layout, kind) for layout in LAYOUTS]
    every = jax.jit(lambda calls: [linear.diagonal(*call, method) for call in calls])
    got = every([(*narrow(*arrays), *flags) for arrays, flags in ((call[:3], call[3:]) for call in calls)])
    wanted = [loop(*call) for call in calls]
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=2e-5, atol=2e-5), got, wanted)


def plain(a, b, h, real, fresh, method):
    """The same recurrence as a scan that JAX differentiates by itself."""

    def step(h, slices):
        a, b, real, fresh = slices
        new = a * jnp.where(fresh[:, None], 0, h) + b
        h = jnp.where(real[:, None], new, h)
        return h, jnp.where(real[:, None], h, 0)

    last, y = jax.lax.scan(step, h, (jnp.swapaxes(a, 0, 1), jnp.swapaxes(b, 0, 1), real.T, fresh.T))
    return jnp.swapaxes(y, 0, 1), last


@pytest.mark.parametrize("length", [1, L])
@pytest.mark.parametrize("method", METHODS[1:])
@pytest.mark.parametrize("kind", ["real", "complex", "mixed"])
def test_gradients_are_those_of_plain_autodiff(kind, method, length):
    """First and second derivatives."""
    with jax.enable_x64(True):
        a, b, h, real, fresh = arguments("mask+reset", "real" if kind == "real" else "complex", length)
        a = a.real.copy() if kind == "mixed" else a
        a, b, h, real, fresh, c, d = map(jnp.asarray, (a, b, h, real, fresh, b[::-1], h[::-1]))

        def gradients(f, *arrays):
            return jax.vjp(lambda *arrays: f(*arrays, real, fresh, method), *arrays)[1]((c, d))

        def steepness(a, f):
            return sum(jnp.sum(jnp.abs(g) ** 2) for g in gradients(f, a, b, h))

        both = lambda f, a, b, h: (gradients(f, a, b, h), jax.grad(steepness)(a, f))
        got, wanted = jax.jit(lambda *arrays: [both(f, *arrays) for f in (linear.diagonal, plain)])(a, b, h)
        jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-10, atol=1e-10), got, wanted)


@pytest.mark.parametrize("method", ["scan", "associative"])
def test_only_the_decay_and_the_states_are_kept_for_the_backward_pass(method):
    *arrays, _, _ = arguments("plain", "complex")
    ways = lambda *arrays: jax.vjp(lambda *arrays: linear.diagonal(*arrays, method=method), *arrays)
    (h, _), pull = jax.eval_shape(ways, *narrow(*arrays))
    kept = [leaf.shape for leaf in jax.tree.leaves(pull)]
    assert sorted(kept) == sorted([h.shape, h.shape, (B, N)])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_is_computed_in_float32(dtype, method):
    *arrays, real, fresh = arguments("mask+reset", "real")
    low = tuple(a.astype(dtype) for a in narrow(*arrays))
    f = jax.jit(lambda *arrays: linear.diagonal(*arrays, real, fresh, method))
    got, pull = jax.vjp(f, *low)
    wanted = f(*(a.astype(jnp.float32) for a in low))
    jax.tree.map(np.testing.assert_array_equal, got, wanted)
    assert {a.dtype.name for a in got} == {"float32"} and {a.dtype.name for a in pull(got)} == {dtype}
    y, _ = jax.eval_shape(f, low[0], low[1], low[2].astype(jnp.complex64))
    assert y.dtype == jnp.complex64


def test_what_is_masked_does_not_count_and_a_masked_reset_neither():
    *arrays, real, fresh = arguments("mask+reset", "real")
    a, b, h = map(np.asarray, narrow(*arrays))
    hidden = lambda x: np.where(real[..., None], x, np.float32(np.nan))

    @jax.jit
    def f(a, b, fresh):
        y, pull = jax.vjp(lambda a, b: linear.diagonal(a, b, h, real, fresh), a, b)
        return y, pull(y)

    got, slopes = f(hidden(a), hidden(b), fresh)
    jax.tree.map(np.testing.assert_array_equal, got, f(a, b, fresh & real)[0])
    assert not any(np.any(np.asarray(g)[~real]) for g in slopes)


def test_each_platform_has_its_method():
    *arrays, _, _ = arguments("plain", "real")
    gradient = jax.jit(jax.grad(lambda a, b, h: linear.diagonal(a, b, h)[0].sum()))
    text = lambda platform: gradient.trace(*narrow(*arrays)).lower(lowering_platforms=(platform,)).as_text()
    assert {p for p in ("cpu", "cuda", "tpu") if "stablehlo.while" in text(p)} == {"cpu"}


def test_an_unknown_method_and_a_wrong_mask_are_refused():
    *arrays, _, _ = arguments("plain", "real")
    for wrong, words in [
        (dict(method="parallel"), "method='parallel'; choose from auto, scan, associative"),
        (dict(mask_BL=np.ones((B, L + 1), bool)), r"mask_BL is bool\[3, 8\]"),
        (dict(reset_BL=np.ones((B, L), int)), r"reset_BL is int64\[3, 7\]"),
    ]:
        with pytest.raises(ValueError, match=words):
            linear.diagonal(*narrow(*arrays), **wrong)


# ---- Eight devices: no collective inside a loop.

MIXERS = ["min_gru", "lru", "rg_lru"]


def programs():
    """Name -> (weights, x, mask, reset) -> y, and weights; also a scan left to autodiff, which shows the trouble."""

    def by_hand(w_N, x_BLN, mask_BL, reset_BL, method):
        a_BLN = jnp.broadcast_to(jax.nn.sigmoid(w_N), x_BLN.shape)
        return linear.diagonal(a_BLN, x_BLN, x_BLN[:, 0], mask_BL, reset_BL, method)[0]

    def by_autodiff(w_N, x_BLN, mask_BL, reset_BL):
        step = lambda h, x: (jax.nn.sigmoid(w_N) * h + x,) * 2
        return jax.lax.scan(step, x_BLN[:, 0], jnp.swapaxes(x_BLN, 0, 1))[1]

    out = {method: (partial(by_hand, method=method), jnp.zeros(8)) for method in METHODS}
    out["autodiff"] = (by_autodiff, jnp.zeros(8))
    for name in MIXERS:
        module = lookup.find(name, "seqjax.mixers", "Mixer")(width=8)
        params = module.init(jax.random.key(0), jnp.zeros((1, 1, 8)))
        apply = lambda p, x, mask, reset, m=module: m.apply(p, x, mask_BL=mask, reset_BL=reset)[0]
        out[name] = (apply, params)
    return out


@pytest.fixture(scope="module")
def found():
    return eight_devices(__file__)


@pytest.mark.slow  # a process of its own, which compiles for eight devices
@pytest.mark.parametrize("name", [*METHODS, *MIXERS])
def test_devices_do_not_meet_inside_a_loop(found, name):
    assert found[name]["loops"] == (0 if name == "associative" else 2)
    assert not found[name]["inside"]
    assert "all-reduce" in found[name]["all"], "the gradient of the weights is not added up"


@pytest.mark.slow
def test_what_autodiff_does_is_seen(found):
    assert "all-reduce" in found["autodiff"]["inside"]


# ---- The mixers.


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def min_gru(x, p, h, real, fresh, f=lambda v: v):
    z, n = np.split(x @ p["inputs"]["kernel"] + p["inputs"]["bias"], 2, axis=-1)
    return loop(1 - sigmoid(z), sigmoid(z) * f(n), h, real, fresh)


def min_gru_positive(x, p, h, real, fresh):
    return min_gru(x, p, h, real, fresh, lambda v: np.where(v >= 0, v + 0.5, sigmoid(v)))


def lru(x, p, h, real, fresh):
    b_re, b_im = np.split(p["inputs"]["kernel"], 2, axis=1)
    c_re, c_im = np.split(p["outputs"]["kernel"], 2, axis=0)
    b = np.exp(p["gamma"]) * (x @ (b_re + 1j * b_im))
    a = np.broadcast_to(np.exp(-np.exp(p["nu"]) + 1j * np.exp(p["theta"])), b.shape)
    h, last = loop(a, b, h[0] + 1j * h[1], real, fresh)
    return (h @ (c_re - 1j * c_im)).real + real[..., None] * p["skip"] * x, (last.real, last.imag)


def rg_lru(x, p, h, real, fresh):
    H, K, _ = p["kernel"].shape
    z = np.zeros((2, *x.shape))
    for head in range(H):
        place = slice(head * K, (head + 1) * K)
        for gate in range(2):
            columns = slice(gate * K, (gate + 1) * K)
            z[gate, ..., place] = x[..., place] @ p["kernel"][head, :, columns] + p["bias"][head, columns]
    r, i = sigmoid(z)
    a = np.exp(-8 * np.log1p(np.exp(p["decay"])) * r)
    return loop(a, np.sqrt(1 - a**2) * i * x, h, real, fresh)


ORACLES = {
    "min_gru": (MinGRU(width=8), min_gru),
    "min_gru positive": (MinGRU(width=8, candidate="positive"), min_gru_positive),
    "lru": (LRU(width=8, state_size=5), lru),
    "rg_lru": (RGLRU(width=8, heads=2), rg_lru),
}


@pytest.mark.parametrize("name", ORACLES)
def test_mixers_follow_their_equations(name):
    module, oracle = ORACLES[name]
    x, real, fresh = draw(B, L, 8), RNG.random((B, L)) > 0.3, RNG.random((B, L)) > 0.6
    state = jax.tree.map(lambda s: draw(*s.shape), module.init_state(B))
    params = jax.jit(module.init)(jax.random.key(0), jnp.zeros((B, L, 8)))["params"]
    params = jax.tree.map(lambda p: np.float64(p) + 0.3 * draw(*p.shape), params)
    as_jax = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), (params, x, state))
    apply = jax.jit(lambda params, x, state: module.apply({"params": params}, x, state, mask_BL=real, reset_BL=fresh))
    got = apply(*as_jax)
    wanted = oracle(x, params, state, real, fresh)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=2e-5, atol=2e-5), got, wanted)


def initial(module):
    return jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 1, module.width)))["params"]


def test_the_lru_starts_uniformly_in_its_ring_with_states_of_equal_variance():
    p = initial(LRU(width=4, state_size=4000, r_min=0.5, r_max=0.9, max_phase=1.0))
    radius, phase = np.exp(-np.exp(p["nu"])), np.exp(p["theta"])
    # By area: a quarter of the states in each quarter of the squared radius.
    for values, end, start in ((radius**2, 0.81, 0.25), (phase, 1.0, 0.0)):
        np.testing.assert_allclose(
            np.quantile((values - start) / (end - start), [0, 0.25, 0.5, 0.75, 1]), [0, 0.25, 0.5, 0.75, 1], atol=0.03
        )
    np.testing.assert_allclose(np.exp(p["gamma"]), np.sqrt(1 - radius**2), rtol=1e-5)
    np.testing.assert_allclose(np.std(p["inputs"]["kernel"]), 1 / np.sqrt(2 * 4), rtol=0.03)
    np.testing.assert_allclose(np.std(p["outputs"]["kernel"]), 1 / np.sqrt(4000), rtol=0.03)


def test_an_lru_without_a_ring_is_refused():
    with pytest.raises(ValueError, match=r"r_min=0\.9 is not below mixer\.r_max=0\.9"):
        LRU(width=4, r_min=0.9, r_max=0.9)


def test_the_rg_lru_starts_with_long_memories():
    a = np.exp(-8 * np.log1p(np.exp(np.float64(initial(RGLRU(width=4000))["decay"]))))
    np.testing.assert_allclose(np.quantile(a, [0, 0.5, 1]), [0.9, 0.9495, 0.999], atol=0.003)


def test_heads_of_the_rg_lru_divide_its_width():
    with pytest.raises(ValueError, match=r"heads=3 does not divide model\.width=8"):
        RGLRU(width=8, heads=3)


@pytest.mark.parametrize("size", [-1e3, 1e3])
def test_gates_of_the_rg_lru_may_shut(size):
    """Shut, the state is kept, and no gradient is NaN."""
    module, x = RGLRU(width=8), np.ones((1, 3, 8), "float32")
    p = initial(module)
    p["bias"] = np.full_like(p["bias"], size)

    @jax.jit
    def both(p, x):
        y, pull = jax.vjp(lambda p, x: module.apply({"params": p}, x, jnp.ones((1, 8))), p, x)
        return y, pull(y)

    (_, state), slopes = both(p, x)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(slopes))
    if size < 0:
        np.testing.assert_allclose(state, 1, rtol=1e-6)


if __name__ == "__main__":
    report(programs(), jnp.zeros((8, L, 8)), *(jnp.ones((8, L), bool),) * 2)
