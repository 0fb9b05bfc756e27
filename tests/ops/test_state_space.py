"""State spaces in chunks against a scan over tokens that JAX differentiates by itself."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

from seqjax.ops import state_space

B, L, D, N = 2, 23, 3, 4
KINDS = ["selective", "signed", "fixed"]


def function(kind):
    """The function and its definition, both of (tokens, weights, h) with keywords for masks."""
    if kind == "fixed":
        return lambda x, weights, h, **flags: state_space.fixed(*x, *weights, h, **flags), fixed
    signed = kind == "signed"
    of = lambda x, weights, h, **flags: state_space.selective(*x[:2], *weights, *x[2:], h, signed=signed, **flags)
    return of, functools.partial(selective, signed)


def selective(signed, token, weights, h):
    (x, dt, b, c), (rate,) = token, weights
    a = jnp.exp(dt[:, None] * rate[None])
    h = (2 * a - 1 if signed else a) * h + (dt * x)[:, None] * b[:, :, None]
    return jnp.sum(h * c[:, :, None], axis=1), h


def fixed(token, weights, h):
    (x,), (a, c) = token, weights
    h = a[None] * h + x[:, None]
    return jnp.sum((c[None] * h).real, axis=1), h


def naive(step, tokens, weights, h, mask_BL, reset_BL):
    """The definition, one token after the other."""

    def one(h, slices):
        token, real, fresh = slices
        y, new = step(token, weights, jnp.where(fresh[:, None, None], 0, h))
        return jnp.where(real[:, None, None], new, h), jnp.where(real[:, None], y, 0)

    turned = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), (tokens, mask_BL, reset_BL))
    h, y = jax.lax.scan(one, h, turned)
    return jnp.swapaxes(y, 0, 1), h


def arguments(kind, dtype="float64", length=L, rows=B):
    draw = np.random.default_rng(0)
    real = lambda *shape: draw.normal(size=shape)
    if kind == "fixed":
        complex_ = lambda *shape: real(*shape) + 1j * real(*shape)
        a = np.exp(-draw.exponential(size=(N, D)) + 1j * real(N, D))
        found = (real(rows, length, D),), (a, complex_(N, D)), complex_(rows, N, D)
    else:
        tokens = real(rows, length, D), draw.exponential(size=(rows, length, D)), *real(2, rows, length, N)
        found = tokens, (-draw.exponential(size=(N, D)),), real(rows, N, D)
    flags = dict(mask_BL=draw.random((rows, length)) > 0.3, reset_BL=draw.random((rows, length)) > 0.8)
    wide = np.promote_types(dtype, "complex64") if dtype != "float64" else np.complex128
    cast = lambda a: jnp.asarray(a, wide if np.iscomplexobj(a) else dtype)
    return jax.tree.map(cast, found), flags


def both(f, given, **flags):
    """Values, and the gradients of their product with fixed random numbers."""
    out, pull = jax.vjp(functools.partial(f, **flags), *given)
    draw = np.random.default_rng(1)
    return out, pull(jax.tree.map(lambda a: jnp.asarray(draw.normal(size=a.shape), a.dtype), out))


def pieces(f, tokens, weights, h, mask_BL, reset_BL):
    """A chunk, a token, the rest: each continues from the state before it."""
    found = []
    for part in (np.s_[:, :9], np.s_[:, 9:10], np.s_[:, 10:]):
        part = jax.tree.map(lambda a, part=part: a[part], (tokens, mask_BL, reset_BL))
        y, h = f(part[0], weights, h, mask_BL=part[1], reset_BL=part[2], chunk=4)
        found.append(y)
    return jnp.concatenate(found, axis=1), h


@pytest.mark.parametrize(("dtype", "most"), [("float64", 1e-10), ("float32", 1e-5)])
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_are_those_of_the_definition(kind, dtype, most):
    """All at once, in chunks that do not divide the length, and in pieces; in one program."""
    with jax.enable_x64(dtype == "float64"):
        given, flags = arguments(kind, dtype)
        f, step = function(kind)
        ways = [functools.partial(f, chunk=5), f, functools.partial(pieces, f)]

        @jax.jit
        def every(given):
            return both(functools.partial(naive, step), given, **flags), [both(way, given, **flags) for way in ways]

        wanted, found = every(given)
        size = jax.tree.map(lambda a: np.maximum(np.max(np.abs(a)), 1), wanted)
        for got in found:
            jax.tree.map(lambda g, w, s: np.testing.assert_allclose(g, w, rtol=0, atol=most * s), got, wanted, size)


@pytest.mark.parametrize("kind", KINDS)
def test_no_array_has_the_states_of_all_tokens(kind):
    """Neither the values nor the gradients."""
    given, flags = arguments(kind, "float32", length=320)
    program = jax.make_jaxpr(lambda *given: both(function(kind)[0], given, **flags))(*given)
    assert max(map(largest, equations(program.jaxpr))) < 320 * B * D * N / 2


def equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda a: isinstance(a, (core.Jaxpr, core.ClosedJaxpr))):
            if isinstance(inner, (core.Jaxpr, core.ClosedJaxpr)):
                yield from equations(getattr(inner, "jaxpr", inner))


def largest(equation):
    return max((math.prod(out.aval.shape) for out in equation.outvars), default=0)


@pytest.mark.slow  # 65,536 tokens
@pytest.mark.parametrize("kind", KINDS)
def test_long_sequences_in_half_precision_are_finite(kind):
    (tokens, *rest), flags = arguments(kind, "float32", length=65_536, rows=1)
    tokens = jax.tree.map(lambda a: a.astype(jnp.bfloat16), tokens)
    found = jax.jit(lambda *given: both(function(kind)[0], given, **flags))(tokens, *rest)
    assert all(bool(jnp.isfinite(a).all()) for a in jax.tree.leaves(found))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(dt_BLD=np.ones((B, L, 1))), r"dt_BLD is \[2, 23, 1\], wanted \[2, 23, 3\]"),
        (dict(c_BLN=np.ones((B, L, D))), r"c_BLN is \[2, 23, 3\], wanted \[2, 23, 4\]"),
        (dict(h_BND=np.ones((B, D, N))), r"h_BND is \[2, 3, 4\], wanted \[2, 4, 3\]"),
        (dict(chunk=0), "chunk=0; .*choose at least 1"),
        (dict(reset_BL=np.ones((B, L + 1), bool)), r"reset_BL is bool\[2, 24\]"),
    ],
)
def test_what_does_not_fit_is_refused(change, words):
    ((x, dt, b, c), (rate,), h), _ = arguments("selective", "float32")
    given = dict(x_BLD=x, dt_BLD=dt, rate_ND=rate, b_BLN=b, c_BLN=c, h_BND=h)
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(functools.partial(state_space.selective, **(given | change)))
