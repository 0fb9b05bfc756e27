"""Linear attention against loops in numpy, plain autodiff and eight simulated devices; and the mixer on it.

Run as a script in a process that simulates eight devices, it prints where they meet in the compiled programs.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hlo import eight_devices, report

from seqjax.mixers.linear_attention import LinearAttention
from seqjax.ops import linear_attention

RNG = np.random.default_rng(0)
B, L, H, E, K = 3, 7, 2, 3, 4
WIDTHS = {"product": E, "taylor": 1 + E + E * (E + 1) // 2}
KERNELS = list(WIDTHS)
LAYOUTS = ["plain", "mask", "reset", "mask+reset"]
FEATURES = ["elu", "taylor", "learned"]


def taylor(x):
    """1, x, and all x_i x_j for i <= j, so scaled that products of features are 1 + s + s^2 / 2."""
    pairs = [x[i] * x[j] * (1 if i < j else 0.5**0.5) for i in range(len(x)) for j in range(i, len(x))]
    return np.array([1, *x, *pairs])


def loop(q, k, v, state, real, fresh, phi=lambda x: x):
    S, z = (s.copy() for s in state)
    y = np.zeros_like(v)
    for b, t, h in np.ndindex(*v.shape[:3]):
        if real is not None and not real[b, t]:
            continue
        if fresh is not None and fresh[b, t]:
            S[b, h], z[b, h] = 0, 0
        S[b, h] += np.outer(phi(k[b, t, h]), v[b, t, h])
        z[b, h] += phi(k[b, t, h])
        if total := phi(q[b, t, h]) @ z[b, h]:
            y[b, t, h] = phi(q[b, t, h]) @ S[b, h] / total
    return y, (S, z)


ORACLES = {"product": loop, "taylor": partial(loop, phi=taylor)}


def draw(*shape):
    return RNG.normal(size=shape)


def arguments(layout, kernel, length=L):
    """q, k, v, a state that some keys have left behind, mask and reset. One row is all masked."""
    positive = np.exp if kernel == "product" else lambda x: x
    q, k = (positive(draw(B, length, H, E)) for _ in range(2))
    real = RNG.random((B, length)) > 0.3 if "mask" in layout else None
    fresh = RNG.random((B, length)) > 0.6 if "reset" in layout else None
    if real is not None:
        real[1] = False
    zeros = np.zeros((B, H, WIDTHS[kernel], K)), np.zeros((B, H, WIDTHS[kernel]))
    _, state = ORACLES[kernel](
        positive(draw(B, 2, H, E)), positive(draw(B, 2, H, E)), draw(B, 2, H, K), zeros, None, None
    )
    return q, k, draw(B, length, H, K), state, real, fresh


def narrow(tree):
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), tree)


def close(got, wanted, tolerance=2e-5):
    jax.tree.map(lambda g, w: np.testing.assert_allclose(np.float64(g), w, rtol=tolerance, atol=tolerance), got, wanted)


@cache
def values_of(kernel):
    """What each layout is called with, and what the loop gives."""
    calls = [arguments(layout, kernel) for layout in LAYOUTS]
    return calls, [ORACLES[kernel](*call) for call in calls]


@pytest.mark.parametrize("chunk", [1, 3, 64])
@pytest.mark.parametrize("kernel", KERNELS)
def test_values_do_not_depend_on_the_chunk(kernel, chunk):
    """A token; two chunks and the beginning of a third; more than there is. All layouts in one program."""
    calls, wanted = values_of(kernel)
    every = jax.jit(lambda calls: [linear_attention.attend(*call, kernel, chunk) for call in calls])
    close(every([(*narrow(arrays), real, fresh) for *arrays, real, fresh in calls]), wanted)


def test_a_token_at_a_time_is_the_whole():
    *arrays, state, real, fresh = arguments("mask+reset", "product")
    (arrays, state), attend = jax.device_get(narrow((arrays, state))), jax.jit(linear_attention.attend)
    wanted, pieces = attend(*arrays, state, real, fresh), []
    for t in range(L):
        now = np.s_[:, t : t + 1]
        y, state = attend(*(a[now] for a in arrays), state, real[now], fresh[now])
        pieces.append(y)
    close((np.concatenate(pieces, axis=1), state), wanted)


def plain(q, k, v, state, real, fresh, kernel):
    """The recurrence as a scan over tokens that JAX differentiates by itself."""
    phi = linear_attention.taylor if kernel == "taylor" else lambda x: x

    def step(state, slices):
        q, k, v, real, fresh = slices
        real, fresh = (a[:, None, None] for a in (real, fresh & real))
        S, z = jnp.where(fresh[..., None], 0, state[0]), jnp.where(fresh, 0, state[1])
        S = jnp.where(real[..., None], S + phi(k)[..., None] * v[..., None, :], S)
        z = jnp.where(real, z + phi(k), z)
        y = jnp.einsum("BHF,BHFK->BHK", phi(q), S) / jnp.einsum("BHF,BHF->BH", phi(q), z)[..., None]
        return (S, z), jnp.where(real, y, 0)

    state, y = jax.lax.scan(step, state, tuple(jnp.swapaxes(a, 0, 1) for a in (q, k, v, real, fresh)))
    return jnp.swapaxes(y, 0, 1), state


@pytest.mark.parametrize("chunk", [1, 3, 64])
@pytest.mark.parametrize("kernel", KERNELS)
def test_gradients_are_those_of_plain_autodiff(kernel, chunk):
    """By q, k, v and the first state, of y and the last state."""
    with jax.enable_x64(True):
        *arrays, real, fresh = arguments("mask+reset", kernel)
        arrays = jax.tree.map(jnp.asarray, arrays)
        c = jnp.asarray(draw(B, L, H, K)), jax.tree.map(lambda s: jnp.asarray(draw(*s.shape)), arrays[3])

        def gradients(f, *arrays):
            return jax.vjp(lambda *arrays: f(*arrays, real, fresh, kernel), *arrays)[1](c)

        ours = partial(linear_attention.attend, chunk=chunk)
        close(*jax.jit(lambda *arrays: [gradients(f, *arrays) for f in (ours, plain)])(*arrays), tolerance=1e-10)


def test_no_state_per_token_and_no_square_is_kept_for_the_backward_pass():
    """From 256 tokens on, what is kept and what is needed besides grows with the length and no faster."""

    def sizes(length, chunk=32):
        qkv = (jax.ShapeDtypeStruct((1, length, 1, 16), "float32"),) * 3
        state = np.zeros((1, 1, 16, 16), "float32"), np.zeros((1, 1, 16), "float32")
        f = lambda q, k, v: linear_attention.attend(q, k, v, state, chunk=chunk)[0]
        kept = sum(a.size for a in jax.tree.leaves(jax.eval_shape(lambda *qkv: jax.vjp(f, *qkv)[1], *qkv)))
        slope = jax.jit(jax.grad(lambda *arrays: jnp.sum(f(*arrays) ** 2), (0, 1, 2))).lower(*qkv).compile()
        return kept, slope.memory_analysis().temp_size_in_bytes

    short, long = sizes(256), sizes(2048)
    assert long[0] < 2048 * 16 * 8  # a state per token is 2048 * 16 * 16, a square 2048 * 2048
    assert all(b < 8.5 * a for a, b in zip(short, long, strict=True))


def test_features_of_taylor_multiply_to_the_second_order_of_exp():
    x = draw(2, 5, E)
    features = np.asarray(jax.jit(linear_attention.taylor)(narrow(x)))
    close(features, np.apply_along_axis(taylor, -1, x))
    s = np.einsum("NE,ME->NM", *x)
    close(np.einsum("NF,MF->NM", *features), 1 + s + s**2 / 2)


def itself(f, *arguments):
    """f(*arguments), and the gradients of half the square of that, in one program."""

    def both(*arguments):
        y, pull = jax.vjp(f, *arguments)
        return y, pull(y)

    return jax.jit(both)(*arguments)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_low_precision_keeps_its_dtype_and_a_float32_state(kernel, dtype):
    q, k, v, state, real, fresh = arguments("mask+reset", kernel)
    low = tuple(a.astype(dtype) for a in narrow((q, k, v)))
    f = lambda *low: linear_attention.attend(*low, narrow(state), real, fresh, kernel, 3)
    (y, end), by_low = itself(f, *low)
    wanted = ORACLES[kernel](*(np.float64(a) for a in low), state, real, fresh)
    assert y.dtype == dtype and {a.dtype.name for a in end} == {"float32"}
    assert {a.dtype.name for a in by_low} == {dtype}
    close(y, wanted[0], 0.05)
    close(end, wanted[1], 0.01)


def test_sums_outgrow_float16_and_nothing_else_does():
    q, k, v = (jnp.asarray(a, "float16") for a in (*300 * np.exp(draw(2, 1, 256, 1, 8)), 1 + draw(1, 256, 1, 8)))
    zeros = jnp.zeros((1, 1, 8, 8)), jnp.zeros((1, 1, 8))
    f = jax.jit(lambda q, k, v: linear_attention.attend(q, k, v, zeros))
    (y, end), pull = jax.vjp(f, q, k, v)
    wanted = loop(*(np.float64(a) for a in (q, k, v)), jax.tree.map(np.float64, zeros), None, None)
    assert all(np.max(s) > np.finfo("float16").max for s in end)
    close(y, wanted[0], 0.01)
    near = jax.vjp(f, *(a.astype("float32") for a in (q, k, v)))[1](
        (y.astype("float32"), jax.tree.map(jnp.zeros_like, end))
    )
    close(pull((y, jax.tree.map(jnp.zeros_like, end))), jax.tree.map(np.float64, near), 0.02)


@pytest.mark.parametrize("chunk", [2, 64])
@pytest.mark.parametrize("kernel", KERNELS)
def test_what_is_masked_does_not_count_and_a_masked_reset_neither(kernel, chunk):
    q, k, v, state, real, fresh = arguments("mask+reset", kernel)
    hidden = lambda a: np.where(real[:, :, None, None], a, np.float32(np.nan))

    @jax.jit
    def f(fresh, *tokens):
        y, pull = jax.vjp(
            lambda *qkv: linear_attention.attend(*qkv, narrow(state), real, fresh, kernel, chunk), *tokens
        )
        return y, pull(y)

    plain = jax.device_get(narrow((q, k, v)))
    got, by_qkv = jax.device_get(f(fresh, *map(hidden, plain)))
    jax.tree.map(np.testing.assert_array_equal, got, jax.device_get(f(fresh & real, *plain)[0]))
    assert not np.any(got[0][~real])
    assert all(np.isfinite(g).all() and not np.any(g[~real]) for g in by_qkv)
    close(jax.tree.map(lambda s: s[1], got[1]), jax.tree.map(lambda s: s[1], state))  # an empty row


def test_a_query_without_weight_gets_zeros_and_no_gradient():
    """Nothing was seen, or nothing that resembles it: (0, 1) . (1, 0) = 0."""
    k = np.tile(np.float32([1, 0]), (1, L, 1, 1))
    q, v, there = k.copy(), np.ones((1, L, 1, K), "float32"), np.zeros((1, L, 1, K), "float32")
    q[0, 3], there[0, 3] = [0, 1], 1
    state = np.zeros((1, 1, 2, K), "float32"), np.zeros((1, 1, 2), "float32")

    @jax.jit
    def both(*qkv):
        y, pull = jax.vjp(lambda *qkv: linear_attention.attend(*qkv, state, chunk=2)[0], *qkv)
        return y, pull(there)

    y, gradients = both(q, k, v)
    np.testing.assert_allclose(y, v - there, rtol=1e-6)
    assert not any(np.any(g) for g in gradients)


def test_an_unknown_kernel_and_a_wrong_mask_are_refused():
    *arrays, _, _ = arguments("plain", "product")
    for wrong, words in [
        (dict(kernel="exp"), "kernel='exp'; choose from product, taylor"),
        (dict(chunk=0), "chunk=0; .* choose at least 1"),
        (dict(mask_BL=np.ones((B, L + 1), bool)), r"mask_BL is bool\[3, 8\]"),
        (dict(reset_BL=np.ones((B, L), int)), r"reset_BL is int64\[3, 7\]"),
    ]:
        with pytest.raises(ValueError, match=words):
            linear_attention.attend(*narrow(arrays), **wrong)


# ---- Eight devices: no collective inside a loop.


def programs():
    """Name -> (weights, x, mask, reset) -> y, and weights. Kernels have none; x stands for q, k and v."""

    def bare(_, x_BLD, mask_BL, reset_BL, kernel):
        x_BLHK = x_BLD.reshape(8, -1, 2, 4)
        F = {"product": 4, "taylor": 15}[kernel]
        state = jnp.zeros((8, 2, F, 4)), jnp.zeros((8, 2, F))
        return linear_attention.attend(x_BLHK**2, x_BLHK**2, x_BLHK, state, mask_BL, reset_BL, kernel)[0]

    out = {f"bare {kernel}": (partial(bare, kernel=kernel), jnp.zeros(1)) for kernel in KERNELS}
    for features in FEATURES:
        module = LinearAttention(width=8, heads=2, feature_map=features)
        params = module.init(jax.random.key(0), jnp.zeros((1, 1, 8)))
        apply = lambda p, x, mask, reset, m=module: m.apply(p, x, mask_BL=mask, reset_BL=reset)[0]
        out[features] = (apply, params)
    return out


@pytest.fixture(scope="module")
def found():
    return eight_devices(__file__)


@pytest.mark.slow  # a process of its own, which compiles for eight devices
@pytest.mark.parametrize("name", [*(f"bare {kernel}" for kernel in KERNELS), *FEATURES])
def test_devices_do_not_meet_inside_a_loop(found, name):
    assert found[name]["loops"] >= 2 and not found[name]["inside"]
    assert set(found[name]["all"]) == (set() if "bare" in name else {"all-reduce"}), "rows travel"


# ---- The mixer.


def softmax(z):
    return np.exp(z - z.max(-1, keepdims=True)) / np.exp(z - z.max(-1, keepdims=True)).sum(-1, keepdims=True)


def features_of(kind, x, maps):
    """phi of q or k, (..., H, E)."""
    if kind == "elu":
        return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))
    if kind == "taylor":
        return np.apply_along_axis(taylor, -1, x / x.shape[-1] ** 0.25)
    z = np.einsum("...HE,HEF->...HF", x, maps)
    return np.concatenate([softmax(z), softmax(-z)], axis=-1)


@pytest.mark.parametrize("kind", FEATURES)
def test_the_mixer_follows_its_equations(kind):
    module = LinearAttention(width=8, heads=2, feature_map=kind, feature_width=3)
    x, real, fresh = draw(B, L, 8), RNG.random((B, L)) > 0.3, RNG.random((B, L)) > 0.6
    params = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 1, 8)))["params"]
    params = jax.tree.map(lambda p: np.float64(p) + 0.3 * draw(*p.shape), params)
    state = jax.tree.map(lambda s: np.abs(draw(*s.shape)) + (s.ndim == 3), module.init_state(B))
    apply = jax.jit(lambda params, x, state: module.apply({"params": params}, x, state, mask_BL=real, reset_BL=fresh))
    got = apply(*map(narrow, (params, x, state)))

    q, k, v = np.split(x @ params["qkv"]["kernel"], [6, 12], axis=-1)
    maps = params.get("maps", (None, None))
    phi_q, phi_k = (features_of(kind, a.reshape(B, L, 2, 3), m) for a, m in zip((q, k), maps, strict=True))
    y, end = loop(phi_q, phi_k, v.reshape(B, L, 2, 4), state, real, fresh)
    close(got, (y.reshape(B, L, 8) @ params["out"]["kernel"], end), 1e-4)


@pytest.mark.parametrize(("kind", "F"), [("elu", 2), ("taylor", 153), ("learned", 4)])
def test_the_width_of_features_by_default(kind, F):
    S, z = jax.eval_shape(lambda: LinearAttention(width=8, feature_map=kind).init_state(3))
    assert S.shape == (3, 4, F, 2) and z.shape == (3, 4, F)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["elu", "learned"])
def test_large_values_do_not_overflow(kind, dtype):
    module = LinearAttention(width=8, heads=2, feature_map=kind, dtype=dtype)
    x = (1000 * jax.random.normal(jax.random.key(1), (2, 5, 8))).astype(dtype)
    params = jax.jit(module.init)(jax.random.key(0), x)

    @jax.jit
    def both(params, x):
        out, pull = jax.vjp(lambda p, x: module.apply(p, x, module.init_state(2)), params, x)
        return out, pull(jax.tree.map(jnp.sign, out))

    out, gradients = both(params, x)
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(out))
    if dtype != "float16":  # whose gradients are as large as its values, and end at 65504
        assert all(np.isfinite(a).all() for a in jax.tree.leaves(gradients))


def test_small_features_of_elu_are_not_lost():
    """Two keys that both have next to no weight still share it."""
    x = jnp.full((1, 1, 2, 1, 2), -40.0)
    phi = jax.jit(LinearAttention(width=2, heads=1).bind({})._features)(x)
    np.testing.assert_allclose(phi, np.exp(-40.0), rtol=1e-5)


def test_learned_features_start_as_those_of_q_and_k_themselves():
    module = LinearAttention(width=8, heads=2, feature_map="learned")
    params = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 1, 8)))
    np.testing.assert_array_equal(params["params"]["maps"], np.broadcast_to(np.eye(4), (2, 2, 4, 4)))


def test_heads_divide_the_width():
    with pytest.raises(ValueError, match=r"heads=3 does not divide model\.width=8"):
        LinearAttention(width=8, heads=3)


if __name__ == "__main__":
    length = 2 * linear_attention.CHUNK + 1  # three chunks, the last filled up
    report(programs(), jnp.zeros((8, length, 8)), *(jnp.ones((8, length), bool),) * 2)
