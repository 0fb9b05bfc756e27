"""Products of low-precision operands, added up in float32."""

import jax.numpy as jnp


def wide(dtype):
    """float32, or what is wider."""
    return jnp.promote_types(dtype, jnp.float32)


def product(equation: str, a, b, dtype):
    """einsum with operands in `dtype`, in float32 at least."""
    return jnp.einsum(equation, a.astype(dtype), b.astype(dtype), preferred_element_type=wide(dtype))
