"""Products with weights against float64; the gradient of a weight is a float32 sum over all tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.ops.dense import einsum

CASES = {
    "features": ("bld,dn->bln", (64, 32, 8), (8, 6)),
    "heads": ("blhk,hkj->blhj", (64, 32, 2, 4), (2, 4, 5)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("dtype", "near"), [("float32", 1e-5), ("bfloat16", 0.01), ("float16", 0.002)])
def test_values_and_gradients_are_those_of_float64(case, dtype, near):
    equation, *shapes = CASES[case]
    draw = np.random.default_rng(0)
    # Operands that half precision holds exactly: what is left is how sums are taken.
    x, w = (draw.integers(-8, 9, size=shape) / 8 for shape in shapes)
    wanted, pull = jax.jit(lambda x, w: jax.vjp(lambda x, w: einsum(equation, x, w, dtype, "float32"), x, w))(
        jnp.asarray(x, dtype), jnp.asarray(w, "float32")
    )
    c = 1 + draw.integers(0, 2, size=wanted.shape)  # all of one sign: half precision would lose small parts of a sum
    dx, dw = pull(jnp.asarray(c, "float32"))
    operands, result = equation.split("->")
    of_x, of_w = operands.split(",")
    assert (dx.dtype, dw.dtype, wanted.dtype) == (dtype, "float32", "float32")
    np.testing.assert_allclose(wanted, np.einsum(equation, x, w), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dw, np.einsum(f"{of_x},{result}->{of_w}", x, c), rtol=1e-5, atol=1e-5)
    dx64 = np.einsum(f"{result},{of_w}->{of_x}", c, w)
    np.testing.assert_allclose(np.float32(dx), dx64, rtol=near, atol=near)
