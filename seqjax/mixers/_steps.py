"""The steps of state spaces: how much time passes from one token to the next, per channel or per state."""

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
