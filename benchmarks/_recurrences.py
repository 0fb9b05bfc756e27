"""The engines that `linear_recurrence` times, each with its definition for one token."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

D, N, H = 256, 16, 4  # features, numbers of the state per feature, heads


class Engine(NamedTuple):
    """An engine, and its definition for torch and JAX: `xp` is one of their modules; tokens are arrays (..., X).

    The definition is `step`; if the state is multiplied elementwise, `make` and `look` say the same of all tokens.
    """

    draw: Callable  # (generator, L) -> tokens, each (1, L, ...); weights; the state before them
    ours: Callable  # (tokens, weights, state) -> y
    step: Callable  # (xp, state, token, weights) -> state, y
    make: Callable | None = None  # (xp, tokens, weights) -> a and b of state = a * state + b
    look: Callable | None = None  # (xp, states, tokens, weights) -> y
    products: Callable | None = None  # (tokens, weights, state) -> a function of the products of chunks; its arrays


def elementwise(draw, ours, make, look, products=None) -> Engine:
    """An engine with state = a * state + b."""

    def step(xp, state, token, weights):
        a, b = make(xp, token, weights)
        state = a * state + b
        return state, look(xp, state, token, weights)

    return Engine(draw, ours, step, make, look, products)


def diagonal() -> Engine:
    """`seqjax.ops.linear.diagonal`."""
    from seqjax.ops import linear

    def draw(rng, L):
        return (sigmoid(rng, 1, L, D), normal(rng, 1, L, D)), (), normal(rng, 1, D)

    ours = lambda tokens, weights, h: linear.diagonal(*tokens, h)[0]
    return elementwise(draw, ours, lambda xp, tokens, _: tokens, lambda xp, h, *_: h)


def selective() -> Engine:
    """`seqjax.ops.state_space.selective`, the recurrence of Mamba."""
    import jax
    import jax.numpy as jnp

    from seqjax.ops import state_space

    def draw(rng, L):
        tokens = normal(rng, 1, L, D), 0.1 * sigmoid(rng, 1, L, D), normal(rng, 1, L, N), normal(rng, 1, L, N)
        rate = -np.tile(np.arange(1, N + 1, dtype=np.float32)[:, None], (1, D))
        return tokens, (rate,), normal(rng, 1, N, D)

    def ours(tokens, weights, h):
        return state_space.selective(*tokens[:2], *weights, *tokens[2:], h)[0]

    def make(xp, tokens, weights):
        x, dt, b, _ = tokens
        return xp.exp(dt[..., None, :] * weights[0]), b[..., None] * (dt * x)[..., None, :]

    def look(xp, h, tokens, weights):
        return (h * tokens[3][..., None]).sum(-2)

    def products(tokens, weights, h):
        def chunk(tokens):
            x_TD, _, b_TN, c_TN = tokens
            return jnp.einsum("TND,TN->TD", jnp.einsum("TN,TD->TND", b_TN, x_TD), c_TN)

        cut = [a.reshape(-1, min(state_space.CHUNK, a.shape[1]), a.shape[-1]) for a in tokens]
        return lambda tokens: jax.lax.map(jax.checkpoint(chunk, prevent_cse=False), tokens), [cut]

    return elementwise(draw, ours, make, look, products)


def fixed() -> Engine:
    """`seqjax.ops.state_space.fixed`, the recurrence of S4D, with N complex numbers per channel."""
    from seqjax.ops import state_space

    def draw(rng, L):
        both = lambda *shape: normal(rng, *shape) + 1j * normal(rng, *shape)
        a = sigmoid(rng, N, D) * np.exp(1j * normal(rng, N, D))
        return (normal(rng, 1, L, D),), (a.astype(np.complex64), both(N, D)), both(1, N, D)

    def make(xp, tokens, weights):
        (x,), (a, _) = tokens, weights
        b = x[..., None, :] + 0 * a
        return a + 0 * b, b

    ours = lambda tokens, weights, h: state_space.fixed(*tokens, *weights, h)[0]
    return elementwise(draw, ours, make, lambda xp, h, _, weights: (h * weights[1]).real.sum(-2))


def matrix_head() -> Engine:
    """`seqjax.ops.matrix_state.run` with one decay per head, the recurrence of RetNet and Mamba-2."""
    from seqjax.ops import matrix_state

    return _decaying(1, matrix_state.CHUNK)


def matrix_channel() -> Engine:
    """`seqjax.ops.matrix_state.run` with one decay per channel, the recurrence of GLA and HGRN2."""
    from seqjax.ops import matrix_state

    limit, lowest = (bounds["float32"] for bounds in (matrix_state.LIMIT, matrix_state.LOWEST))
    return _decaying(D // H, int(-2 * limit / lowest))


def _decaying(channels: int, chunk: int) -> Engine:
    """S = exp(g) S + k v^T, y = S^T q."""
    from seqjax.ops import matrix_state

    def draw(rng, L):
        g = np.log(sigmoid(rng, 1, L, H, channels))
        return (*_heads(rng, L), g), (), normal(rng, 1, H, D // H, D // H)

    def ours(tokens, _, S):
        q, k, v, g = tokens
        return matrix_state.run(matrix_state.Tokens(q, g, k, v), S)[0]

    def make(xp, tokens, _):
        _, k, v, g = tokens
        return xp.exp(g)[..., None], k[..., None] * v[..., None, :]

    return elementwise(draw, ours, make, lambda xp, S, tokens, _: _read(xp, S, tokens[0]), _written(chunk))


def matrix_delta() -> Engine:
    """`seqjax.ops.matrix_state.run` with the delta rule on a state that decays, the recurrence of Gated DeltaNet."""
    import jax.numpy as jnp

    from seqjax.ops import matrix_state

    def draw(rng, L):
        q, k, v = _heads(rng, L)
        k = k / np.linalg.norm(k, axis=-1, keepdims=True)
        beta, g = sigmoid(rng, 1, L, H, 1), np.log(sigmoid(rng, 1, L, H, 1))
        return (q, k, v, beta, g), (), normal(rng, 1, H, D // H, D // H)

    def step(xp, S, token, _):
        q, k, v, beta, g = token
        S = xp.exp(g)[..., None] * S
        S = S + k[..., None] * (beta * (v - _read(xp, S, k)))[..., None, :]
        return S, _read(xp, S, q)

    def products(tokens, _, S):
        def chunk(S, tokens):
            q, k, v, small = tokens  # without decays the state would grow, so that what is read from it is made small
            a = small * k
            pairs, found = jnp.concatenate([q, a], axis=2) @ turned(k), jnp.concatenate([q, a], axis=2) @ S
            (of_q, of_a), (from_q, from_a) = jnp.split(pairs, 2, axis=2), jnp.split(found, 2, axis=2)
            u = of_a @ (v + from_a)  # in place of the product with the inverse
            return S + turned(k) @ u, of_q @ u + from_q

        q, k, v, beta, _ = tokens
        return _by_chunk(chunk, (q, k, v, 1e-6 * beta), S, matrix_state.CHUNK_BACK)

    ours = lambda tokens, _, S: matrix_state.run(matrix_state.delta(*tokens), S)[0]
    return Engine(draw, ours, step, products=products)


def matrix_mlstm() -> Engine:
    """`seqjax.ops.mlstm.run`, with its running maximum."""
    from seqjax.ops import mlstm

    def draw(rng, L):
        i, f = normal(rng, 1, L, H), np.log(sigmoid(rng, 1, L, H))
        K = D // H
        return (*_heads(rng, L), i, f), (), (normal(rng, 1, H, K, K), normal(rng, 1, H, K), normal(rng, 1, H))

    def step(xp, state, token, _):
        (C, n, m), (q, k, v, i, f) = state, token
        top = xp.maximum(f + m, i)
        old, new = xp.exp(f + m - top)[..., None], xp.exp(i - top)[..., None]
        C, n = old[..., None] * C + (new * k)[..., None] * v[..., None, :], old * n + new * k
        total = xp.maximum(xp.abs((n * q).sum(-1)), xp.exp(-top))
        return (C, n, top), _read(xp, C, q) / total[..., None]

    def products(tokens, weights, state):
        q, k, v, *_ = tokens
        beside = lambda a, b: np.concatenate([a, b], axis=-1)  # the sum of weights is one more column
        return _written(mlstm.CHUNK)((q, k, beside(v, v[..., :1])), weights, beside(state[0], state[1][..., None]))

    return Engine(draw, lambda tokens, _, state: mlstm.run(*tokens, state)[0], step, products=products)


def _heads(rng, L: int):
    """q, k and v of H heads; q . k is about 1."""
    shape = (1, L, H, D // H)
    return normal(rng, *shape), normal(rng, *shape) / np.float32(D // H) ** 0.5, normal(rng, *shape)


def _read(xp, S, q):
    return xp.einsum("...kv,...k->...v", S, q)


def _written(size: int) -> Callable:
    """The products of a state that tokens write to: pairs, what they read, the old state, the new one."""

    def products(tokens, _, S):
        def chunk(S, tokens):
            q, k, v = tokens
            return S + turned(k) @ v, (q @ turned(k)) @ v + q @ S

        return _by_chunk(chunk, tokens[:3], S, size)

    return products


def _by_chunk(chunk: Callable, tokens, S, size: int) -> tuple[Callable, list[Any]]:
    """A function of tokens, cut into chunks (C, 1, H, T, X), and S: y of all chunks, which are computed again for the
    gradient, as in `seqjax.ops._documents`."""
    import jax

    cut = lambda a: np.moveaxis(a.reshape(1, -1, min(size, a.shape[1]), *a.shape[2:]), (1, 3), (0, 2))
    return lambda tokens, S: jax.lax.scan(jax.checkpoint(chunk, prevent_cse=False), S, tokens)[1], [
        [np.ascontiguousarray(cut(a)) for a in tokens],
        S,
    ]


def turned(a):
    """The matrices of a, transposed."""
    return a.swapaxes(-1, -2)


def normal(rng, *shape):
    """Random numbers, float32."""
    return rng.standard_normal(shape, np.float32)


def sigmoid(rng, *shape):
    """Random numbers between 0 and 1, float32."""
    return 1 / (1 + np.exp(-normal(rng, *shape)))


ENGINES = {
    "diagonal": diagonal,
    "selective": selective,
    "fixed": fixed,
    "matrix_head": matrix_head,
    "matrix_channel": matrix_channel,
    "matrix_delta": matrix_delta,
    "matrix_mlstm": matrix_mlstm,
}
