"""Ways to tell a model where a token stands."""

import jax.numpy as jnp


def rotary(x_BLHK, position_BL, base: float = 10_000.0):
    """Rotates each pair (x_i, x_{i + K/2}) by position * base^(-2i / K): scores then see differences of positions.

    Angles are float32. Su et al. 2021, "RoFormer", arXiv:2104.09864.

    Raises:
      ValueError: the head width K is odd.
    """
    K = x_BLHK.shape[-1]
    if K % 2:
        raise ValueError(f"rotary positions turn pairs, got an odd head width of {K}: choose other heads or width.")
    frequency_K = base ** (-jnp.arange(0, K, 2, dtype=jnp.float32) / K)
    angle_BL1K = (position_BL[:, :, None].astype(jnp.float32) * frequency_K[None, None, :])[:, :, None, :]
    sin, cos = jnp.sin(angle_BL1K), jnp.cos(angle_BL1K)
    a_BLHK, b_BLHK = jnp.split(x_BLHK.astype(jnp.float32), 2, axis=-1)
    y_BLHK = jnp.concatenate([a_BLHK * cos - b_BLHK * sin, b_BLHK * cos + a_BLHK * sin], axis=-1)
    return y_BLHK.astype(x_BLHK.dtype)
