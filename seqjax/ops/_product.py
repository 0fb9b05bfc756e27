"""Products of low-precision operands, added up in float32."""

import jax
import jax.numpy as jnp


def wide(dtype):
    """float32, or what is wider."""
    return jnp.promote_types(dtype, jnp.float32)


def product(equation: str, a, b, dtype):
    """einsum with operands in `dtype`, in float32 at least."""
    a, b = a.astype(dtype), b.astype(dtype)
    if jax.default_backend() == "cpu":  # which lacks some products of 16-bit operands; widened they give the same
        a, b = a.astype(wide(dtype)), b.astype(wide(dtype))
    return jnp.einsum(equation, a, b, preferred_element_type=wide(dtype))
