"""Products of low-precision operands, summed in float32."""

import jax
import jax.numpy as jnp


def wide(dtype):
    """The wider one of `dtype` and float32."""
    return jnp.promote_types(dtype, jnp.float32)


def product(equation: str, a, b, dtype, out=None):
    """einsum with operands in `dtype`, summed in at least float32; the result in `out`, or if None as summed."""
    a, b, most = a.astype(dtype), b.astype(dtype), wide(dtype)
    if jax.default_backend() == "cpu":  # it lacks some products of 16-bit operands; wider operands give the same result
        return jnp.einsum(equation, a.astype(most), b.astype(most)).astype(out or most)
    return jnp.einsum(equation, a, b, preferred_element_type=out or most)
