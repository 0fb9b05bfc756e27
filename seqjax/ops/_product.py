"""Products of low-precision operands, added up in float32."""

import jax
import jax.numpy as jnp


def wide(dtype):
    """float32, or what is wider."""
    return jnp.promote_types(dtype, jnp.float32)


def product(equation: str, a, b, dtype, out=None):
    """einsum with operands in `dtype`, added up in float32 at least; the result in `out`, or in that."""
    a, b, most = a.astype(dtype), b.astype(dtype), wide(dtype)
    if jax.default_backend() == "cpu":  # which lacks some products of 16-bit operands; widened they give the same
        return jnp.einsum(equation, a.astype(most), b.astype(most)).astype(out or most)
    return jnp.einsum(equation, a, b, preferred_element_type=out or most)
