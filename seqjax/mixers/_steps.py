"""The steps of state spaces: how much time passes from one token to the next, and what decays in it."""

import jax
import jax.numpy as jnp

LEAST, MOST = 1e-3, 0.1  # steps at the start: memories of about 10 to 1000 tokens


def init(key, shape, dtype=jnp.float32):
    """Parameters whose softplus is uniform in the logarithm between LEAST and MOST.

    softplus, unlike exp, cannot overflow while it is trained. Gu and Dao 2023, arXiv:2312.00752.
    """
    low, high = jnp.log(LEAST), jnp.log(MOST)
    step = jnp.exp(jax.random.uniform(key, shape, dtype, low, high))
    return step + jnp.log(-jnp.expm1(-step))  # the inverse of softplus


def init_rate(key, shape):
    """Rates of decay at the start: the logarithm of a number uniform in [1, 16]."""
    return jnp.log(jax.random.uniform(key, shape, minval=1.0, maxval=16.0))


def decay(rate_H, dt_BLH, bias_H):
    """The logarithm of a decay per head, g = -exp(rate) softplus(dt + bias)."""
    return -jnp.exp(rate_H)[None, None] * jax.nn.softplus(dt_BLH + bias_H[None, None])
