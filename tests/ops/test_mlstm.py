"""The mLSTM's recurrence against its definition, one token after the other and without a maximum, in float64.

Compared by hand with xLSTM of transformers 5.24.0 (`mlstm_recurrent_sequence_native`, torch 2.13.0, eps=0), 192 tokens,
largest difference over largest value: 4.0e-15 in float64; 1.8e-4 in float32, where n . q nearly cancels.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_matrix_state import B, H, K, L, V, close, flags

from seqjax.ops import mlstm


def naive(q, k, v, i, f, state, real, fresh):
    """The equations; a state without m."""

    def step(state, token):
        (q, k, v, i, f), real, fresh = token
        C, n = (jnp.where(fresh.reshape(-1, *(1,) * (a.ndim - 1)), 0, a) for a in state)
        C = jnp.exp(f)[..., None, None] * C + jnp.exp(i)[..., None, None] * k[..., None] * v[:, :, None]
        n = jnp.exp(f)[..., None] * n + jnp.exp(i)[..., None] * k
        total = jnp.maximum(jnp.abs(jnp.einsum("bhk,bhk->bh", n, q)), 1)[..., None]
        y = jnp.where(real[:, None, None], jnp.einsum("bhkv,bhk->bhv", C, q) / total, 0)
        keep = lambda new, old: jnp.where(real.reshape(-1, *(1,) * (new.ndim - 1)), new, old)
        return (keep(C, state[0]), keep(n, state[1])), y

    C, n, m = state
    state = C * jnp.exp(m)[..., None, None], n * jnp.exp(m)[..., None]
    state, y = jax.lax.scan(
        step, state, jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), ((q, k, v, i, f), real, fresh & real))
    )
    return jnp.swapaxes(y, 0, 1), state


def draw(length=L, gates=3.0):
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.normal(size=shape)
    wide, narrow = (B, length, H, K), (B, length, H)
    tokens = (
        normal(*wide),
        normal(*wide),
        normal(B, length, H, V),
        gates * normal(*narrow),
        -rng.exponential(size=narrow),
    )
    return tokens, (normal(B, H, K, V), normal(B, H, K), normal(B, H))


def both(f, tokens, state):
    """y and the last state, and the gradients of their products with fixed numbers."""
    out, pull = jax.vjp(lambda tokens, state: f(*tokens, state, *flags()), tokens, state)
    return out, pull(jax.tree.map(lambda x: jnp.asarray(np.random.default_rng(9).normal(size=x.shape), x.dtype), out))


def plain(*arguments, **options):
    """`mlstm.run`, with a state that is not divided by e^m."""
    y, (C, n, m) = mlstm.run(*arguments, **options)
    return y, (C * jnp.exp(m)[..., None, None], n * jnp.exp(m)[..., None])


def test_values_and_gradients_are_those_of_the_equations():
    """In chunks of 7, and of one token, and all at once; then in float32."""
    with jax.enable_x64(True):
        exact = jax.tree.map(jnp.float64, draw())
        every = lambda *a: [both(naive, *a), *(both(partial(plain, chunk=chunk), *a) for chunk in (1, 7, 64))]
        wanted, *found = jax.device_get(jax.jit(every)(*exact))
    for got in found:
        close(got, wanted, 1e-10)
    close(jax.device_get(jax.jit(partial(both, plain))(*jax.tree.map(jnp.float32, draw()))), wanted, 1e-5)


@pytest.mark.parametrize("size", [300.0, 3000.0])
def test_gates_of_any_size_are_finite(size):
    tokens, state = jax.tree.map(jnp.float32, draw(gates=size))
    out = jax.device_get(jax.jit(partial(both, mlstm.run))(tokens, state))
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(out))


@pytest.mark.slow  # 64k tokens
def test_64k_tokens_in_bfloat16_are_finite():
    """Values and gradients; where nothing is forgotten, too, so that sums and the maximum grow to the end."""
    (q, k, v, i, f), state = draw(length=2**16)
    for forgets in (1.0, 0.0):
        tokens = *(jnp.asarray(a, "bfloat16") for a in (q, k, v)), jnp.float32(i), jnp.float32(forgets * f)
        loss = lambda tokens, state: jnp.sum(mlstm.run(*tokens, state, *flags(2**16))[0] ** 2)
        out = jax.device_get(jax.jit(jax.value_and_grad(loss, (0, 1)))(tokens, jax.tree.map(jnp.float32, state)))
        assert all(np.isfinite(np.float32(a)).all() for a in jax.tree.leaves(out))


def test_an_empty_chunk_is_refused():
    tokens, state = jax.tree.map(jnp.float32, draw())
    with pytest.raises(ValueError, match=r"chunk=0; it is the number of tokens .* choose at least 1"):
        mlstm.run(*tokens, state, chunk=0)
