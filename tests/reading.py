"""What mixers that read a memory are tested with: an input, a memory with holes, and a call from the memory on."""

import functools

import gradients
import jax
import numpy as np
import pytest

B, L, S, D = 3, 6, 5, 4
REAL_S = np.array([[1, 1, 1, 1, 1], [0, 1, 0, 1, 1], [0, 0, 0, 0, 0]], bool)
REAL_L = np.array([[1, 1, 1, 1, 1, 1], [0, 1, 1, 0, 1, 1], [1, 1, 0, 1, 1, 0]], bool)
FRESH_L = np.array([[0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0, 1, 0, 0, 0, 0]], bool)
FLAGS = dict(mask_BL=REAL_L, reset_BL=FRESH_L)


def drawn(kind, options, seed=0):
    """A module, its parameters, none of them where it starts, an input and a memory."""
    module = kind(width=D, **options)
    draw = np.random.default_rng(seed)
    x, memory = (draw.normal(size=(B, n, D)).astype("float32") for n in (L, S))
    return module, gradients.drawn(module, memory, REAL_S, method="prefill", seed=seed), x, memory


def call(module, params, x, memory, mutable=False, mask_BS=REAL_S, **flags):
    """From the memory on."""

    return _call(module, mutable and tuple(mutable), params, x, memory, mask_BS, flags)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _call(module, mutable, params, x, memory, mask_BS, flags):
    state = module.apply(params, memory, mask_BS, method="prefill")
    return module.apply(params, x, state, mutable=mutable, **flags)


def check_refusals(kind, state: str):
    """What does not fit is refused, by names of the mixer and of its state."""
    module, params, x, memory = drawn(kind, {})
    name = kind.__name__
    for wrong, words in [
        (lambda: module.init_state(B), r"reads a memory.*call prefill\(memory_BSD"),
        (lambda: module.apply(params, x), r"the state is None.*make it with prefill"),
        (lambda: module.apply(params, memory[..., :2], method="prefill"), rf"\[3, 5, 2\], {name} wants \[B, S, 4\]"),
        (lambda: call(module, params, x[..., :2], memory), rf"\[3, 6, 2\], {name} wants \[B, L, 4\]"),
        (lambda: call(module, params, x[:2], memory), f"{name} wants the state {state} with 2 rows"),
    ]:
        with pytest.raises(ValueError, match=words):
            wrong()
