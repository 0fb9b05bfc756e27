"""Products with weights. In half precision, too, the gradient of a weight is summed over all tokens in float32."""

from functools import partial

import jax
import jax.numpy as jnp

from seqjax.ops._product import product, wide


def einsum(equation: str, x, w, dtype, out=None):
    """`jnp.einsum(equation, x, w)` with operands in `dtype` and the result in `out` (None: in `dtype`).

    The gradient of w, a sum over all tokens, stays in float32. Autodiff of `w.astype(dtype)` would round it, also its
    parts on several devices, to `dtype`; in float16 it would overflow.
    """
    dtype = jnp.dtype(dtype)
    out = dtype if out is None else jnp.dtype(out)
    if dtype == wide(dtype):
        return jnp.einsum(equation, x.astype(dtype), w.astype(dtype), preferred_element_type=out)
    return _half(equation, dtype, out, x, w)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _half(equation, dtype, out, x, w):
    return product(equation, x, w, dtype, out)


def _backward(equation, dtype, out, residuals, g):
    x, w = residuals
    operands, _, result = equation.partition("->")
    of_x, of_w = operands.split(",")
    dx = product(f"{result},{of_w}->{of_x}", g, w, dtype, x.dtype)
    return dx, product(f"{of_x},{result}->{of_w}", x, g, dtype, w.dtype)


_half.defvjp(lambda equation, dtype, out, x, w: (_half(equation, dtype, out, x, w), (x, w)), _backward)
