"""Mixers whose time is linear in the length, at the lengths that they are made for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import drawn
from subjects import OPTIONS, mixer

from seqjax import lookup
from seqjax.mixers._matrix import MatrixMixer

L, D = 2**16, 8
FAMILIES = ("linear recurrence", "convolution")
# Matrix states and state spaces take a minute for each mixer: their recurrences meet this in tests/ops.
IN_OPS = {"mamba", "s4d"}
of = lambda name: lookup.find(name, "seqjax.mixers", "Mixer")
LINEAR = [n for n in lookup.names("seqjax.mixers") if of(n).family in FAMILIES and of(n).causal]
FOUND = [n for n in LINEAR if not issubclass(of(n), MatrixMixer) and n not in IN_OPS]


@pytest.mark.slow  # 64k tokens
@pytest.mark.parametrize("name", [*FOUND, "linear_attention"])
def test_64k_tokens_in_bfloat16_are_finite(name):
    """Values and gradients, with documents of thousands of tokens and gaps in them."""
    module, rng = mixer(name, OPTIONS.get(name, [{}])[0])(width=D, dtype="bfloat16"), np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(1, L, D)), "bfloat16")
    flags = dict(mask_BL=rng.random((1, L)) > 0.1, reset_BL=rng.random((1, L)) > 1 - 2**-13)

    def loss(params, x):
        y, _ = module.apply(params, x, **flags)
        return jnp.sum(jnp.float32(y) ** 2), y

    (_, y), slopes = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(drawn(module, x[:, :1]), x)
    found = jax.device_get((y, slopes))
    assert all(np.isfinite(np.float32(a)).all() for a in jax.tree.leaves(found))
    assert all(np.any(a) for a in jax.tree.leaves(found))
