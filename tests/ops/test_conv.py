"""Causal convolutions against a loop in numpy: masks, resets, chunks and steps, in values and gradients.

By hand against `torch.nn.functional.conv1d` of torch 2.13.0 (CPU), float64, whole documents, dilations 1 and 3: outputs
and gradients of input and filter are at most 1.1e-14 apart; with 300 taps, by transforms, at most 1.1e-13.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.ops import _long_conv, conv

RNG = np.random.default_rng(0)
B, L, D, E, W = 4, 11, 3, 2, 3
OPS = {
    "depthwise": (conv.depthwise, (W, D)),
    "transforms": (conv.depthwise, (W, D)),
    "full": (conv.full, (W, D, E)),
}
WAYS = [("depthwise", 1), ("depthwise", 2), ("transforms", 1), ("full", 1), ("full", 2)]


@pytest.fixture(autouse=True)
def sizes(request, monkeypatch):
    """The sizes at which transforms begin; a sequence here has three levels of halves."""
    if getattr(request.node, "callspec", None) and request.node.callspec.params.get("op") == "transforms":
        monkeypatch.setattr(conv, "LONG", 2)
        monkeypatch.setattr(_long_conv, "BLOCK", 2)


def loop(x, w, state, real, fresh, dilation):
    """Token by token: the list of the real inputs of the document, the cache first."""
    y, R = np.zeros((*x.shape[:2], w.shape[-1])), state.shape[1]
    product = np.multiply if w.ndim == 2 else np.matmul
    end = state.copy()
    for row in range(len(x)):
        document = list(state[row])
        for t in np.flatnonzero(real[row]):
            document = [*([np.zeros(D)] * R if fresh[row, t] else document), x[row, t]]
            y[row, t] = sum(product(document[-1 - j * dilation], w[-1 - j]) for j in range(len(w)))
        end[row] = document[len(document) - R :]
    return y, end


def draw(*shape):
    return RNG.normal(size=shape)


def arguments(op, dilation, length=L):
    """x, filter, a cache in use, mask and reset. One row is all masked, another all real."""
    real, fresh = RNG.random((B, length)) > 0.4, RNG.random((B, length)) > 0.7
    real[1], real[2] = False, True
    return draw(B, length, D), draw(*OPS[op][1]), draw(B, (W - 1) * dilation, D), real, fresh


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def close(got, wanted):
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-10, atol=1e-10), *jax.device_get((got, wanted)))


def layouts(real, fresh):
    """Flags as they may be given; those for the loop."""
    some = itertools.product((None, real), (None, fresh))
    return [
        ((m, r), (np.ones_like(real) if m is None else m, np.zeros_like(fresh) if r is None else r)) for m, r in some
    ]


@pytest.mark.parametrize(("op", "dilation"), WAYS)
def test_values(x64, op, dilation):
    """All layouts in one program."""
    *arrays, real, fresh = arguments(op, dilation)
    f = functools.partial(OPS[op][0], dilation=dilation)
    got = jax.jit(lambda *arrays: [f(*arrays, *flags) for flags, _ in layouts(real, fresh)])(*arrays)
    close(got, [loop(*arrays, *flags, dilation) for _, flags in layouts(real, fresh)])


def plain(x, w, state, real, fresh, dilation):
    """The same as a scan over tokens, which JAX differentiates by itself."""

    def step(state, token):
        x, real, fresh = token
        window = jnp.concatenate([jnp.where(fresh[:, None, None], 0, state), x[:, None]], axis=1)
        taps = window[:, ::dilation]
        y = jnp.einsum("BWD,WD->BD" if w.ndim == 2 else "BWD,WDE->BE", taps, w)
        return jnp.where(real[:, None, None], window[:, 1:], state), jnp.where(real[:, None], y, 0)

    state, y = jax.lax.scan(step, state, (jnp.swapaxes(x, 0, 1), real.T, fresh.T))
    return jnp.swapaxes(y, 0, 1), state


def pieces(f, sizes, x, w, state, real, fresh):
    """Chunk by chunk, handing on the cache."""
    ys, start = [], 0
    for size in sizes:
        part = np.s_[:, start : start + size]
        y, state = f(x[part], w, state, real[part], fresh[part])
        ys, start = [*ys, y], start + size
    return jnp.concatenate(ys, axis=1), state


SIZES = {"whole": (L,), "chunks": (4, 1, 6), "steps": (1,) * L}


@pytest.mark.parametrize(("op", "dilation"), WAYS)
def test_chunks_and_steps_have_the_gradients_of_plain_autodiff(x64, op, dilation):
    """By x, the filter and the first cache, of y and the last cache. Some chunks are shorter than the cache."""
    *arrays, real, fresh = arguments(op, dilation)
    f = functools.partial(OPS[op][0], dilation=dilation)
    y, end = jax.eval_shape(functools.partial(plain, dilation=dilation), *arrays, real, fresh)
    c = draw(*y.shape), draw(*end.shape)

    def both(way, *arrays):
        y, back = jax.vjp(lambda *arrays: way(*arrays, real, fresh), *arrays)
        return y, back(c)

    ways = [functools.partial(pieces, f, sizes) for sizes in SIZES.values()]
    wanted, *got = jax.jit(
        lambda *arrays: [both(way, *arrays) for way in (functools.partial(plain, dilation=dilation), *ways)]
    )(*arrays)
    for one in got:
        close(one, wanted)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_a_window_around_a_token_ends_with_its_document(x64, width):
    x, _, _, real, fresh = arguments("full", 1)
    w, wanted = draw(width, D, E), np.zeros((B, L, E))
    for row in range(B):
        document_L = np.cumsum(fresh[row] & real[row])
        for number in np.unique(document_L):
            places = np.flatnonzero((document_L == number) & real[row])
            for i, j in np.ndindex(len(places), width):
                if 0 <= i + j - width // 2 < len(places):
                    wanted[row, places[i]] += x[row, places[i + j - width // 2]] @ w[j]
    close(jax.jit(conv.around)(x, w, real, fresh), wanted)


@pytest.mark.parametrize("op", OPS)
def test_what_is_masked_does_not_count_and_a_masked_reset_neither(op):
    *arrays, real, fresh = arguments(op, 1)
    x, w, state = (np.float32(a) for a in arrays)

    @jax.jit
    def f(x, fresh):
        y, back = jax.vjp(lambda x: OPS[op][0](x, w, state, real, fresh), x)
        return y, back(y)[0]

    nan = np.where(real[..., None], x, np.float32(np.nan))
    (got, by_x), (wanted, _) = jax.device_get((f(nan, fresh), f(x, fresh & real)))
    jax.tree.map(np.testing.assert_array_equal, got, wanted)
    assert not np.any(by_x[~real]) and not np.any(got[0][~real])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("op", OPS)
def test_half_precision_stays_half_and_the_cache_float32(op, dtype):
    """Sums are float32: the result is the exact one, rounded once."""
    *arrays, real, fresh = arguments(op, 1)
    x, w, state = (np.float32(a.astype(jnp.dtype(dtype))) for a in arrays)

    @jax.jit
    def f(x, w, state):
        y, back = jax.vjp(lambda *arrays: OPS[op][0](*arrays, real, fresh), x, w, state)
        return y, back(y)

    (y, end), slopes = jax.device_get(f(x.astype(jnp.dtype(dtype)), w, state))
    (wanted, wanted_end), _ = jax.device_get(f(x, w, state))
    assert (y.dtype, end.dtype) == (dtype, "float32")
    np.testing.assert_array_equal(np.float32(y), np.float32(wanted.astype(jnp.dtype(dtype))))
    np.testing.assert_array_equal(end, wanted_end)
    assert [a.dtype for a in slopes] == [dtype, "float32", "float32"]


@pytest.mark.parametrize("op", OPS)
def test_what_does_not_fit_is_refused(op):
    f, shape = OPS[op]
    x, w, state = np.zeros((B, L, D)), np.zeros(shape), np.zeros((B, W - 1, D))
    for wrong, words in [
        (dict(filter=np.zeros((W, D + 1, E)[: w.ndim])), r"is \[3, 4.*, wanted \[W, 3"),
        (dict(filter=np.zeros(D)), r"is \[3\], wanted \[W, 3"),
        (dict(state_BRD=np.zeros((B, W, D))), r"state_BRD is \[4, 3, 3\], wanted \[4, 2, 3\]"),
        (dict(dilation=2), r"state_BRD is \[4, 2, 3\], wanted \[4, 4, 3\]"),
        (dict(dilation=0), "dilation=0; .* choose at least 1"),
        (dict(mask_BL=np.ones((B, L), int)), r"mask_BL is int64\[4, 11\], wanted bool"),
        (dict(reset_BL=np.ones((B, L + 1), bool)), r"reset_BL is bool\[4, 12\], wanted bool\[4, 11\]"),
    ]:
        given = dict(state_BRD=state) | {k: v for k, v in wrong.items() if k != "filter"}
        with pytest.raises(ValueError, match=words):
            jax.eval_shape(functools.partial(f, **given), x, wrong.get("filter", w))
