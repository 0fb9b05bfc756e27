"""The three programs of a layer that are timed: a training step, reading a prompt, and decoding tokens after it."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks import _layers, _roofline, decoding, ready
from benchmarks.decoding import STEPS
from benchmarks.ready import Built, Work

CHUNK = 1024  # tokens per call while a state is filled
ONCE = {"xla_backend_optimization_level": 0}  # for a program that runs once


class Limits(NamedTuple):
    """The longest time of a call, in seconds, and the peak rate of the machine, in FLOPs per second."""

    seconds: float
    flops: float


def build(name: str, like: int, dtype: str, limits: Limits, what: str, B: int, L: int) -> Built:
    """The layer with as many parameters as attention of width `like`, ready to train on L tokens of B rows, to read
    them ("prefill"), or to decode STEPS tokens after them ("decode").

    It is left out if no width fits, if its products would already take too long, or if the memory is too small.
    """
    import jax
    import jax.numpy as jnp

    from seqjax.training import cost

    bare = Built(None, ready.device())
    try:
        D = _layers.width_like(name, like)
    except ValueError as error:
        return bare._replace(left_out=str(error).removesuffix("."))
    layer = _layers.mixer(name, D, dtype, L + STEPS * (what == "decode"))
    held = cost.nbytes(jax.eval_shape(lambda: layer.init_state(1)))
    flops = _roofline.flops(layer, what, B, L)
    if flops / limits.flops > limits.seconds:
        return bare._replace(left_out=f"{flops / limits.flops:,.0f} s a call at least")
    if 3 * B * held / 2**20 > ready.free_mb():
        return bare._replace(left_out=f"{B * held / 2**20:,.0f} MB of state")
    params = jax.jit(layer.init, compiler_options=ONCE)(jax.random.key(0), jnp.zeros((1, 1, D), dtype))
    rng = np.random.default_rng(0)
    random = lambda *shape: jnp.asarray(rng.standard_normal(shape, np.float32), dtype)
    if what == "decode":
        state = jax.tree.map(lambda a: jnp.repeat(a, B, axis=0), filled(layer, params, random, L))
        step = lambda params, x_BD, state: layer.apply(params, x_BD, state, method="step")
        inputs = random(STEPS, B, D)
        built = decoding.decoded(step, "scan", params, inputs, state, rewinding(state))
        moved = STEPS * cost.nbytes((params, state)) + 2 * inputs.nbytes  # each token reads them again
        peak = cost.nbytes((params, state)) + 2 * inputs.nbytes
    else:
        program = _layers.train(layer) if what == "training" else _layers.read(layer)
        args = params, *(random(B, L, D) for _ in range(2 if what == "training" else 1))
        built = ready.jitted(program, *args, most_mb=ready.free_mb())
        moved = peak = cost.nbytes(args) + cost.nbytes(jax.eval_shape(program, *args))
    peak += int(built.temp_mb * 2**20)
    tokens = B * (STEPS if what == "decode" else L)
    return built._replace(work=Work(D, cost.count(params), tokens, flops, moved, held, peak), decoded=None)


def filled(layer, params, random: Callable, L: int):
    """The state of one row after L random tokens."""
    import jax

    step = jax.jit(lambda params, x_BLD, state: layer.apply(params, x_BLD, state)[1], donate_argnums=2)
    state, size = jax.tree.map(lambda a: a + 0, layer.init_state(1)), math.gcd(L, CHUNK)
    for _ in range(L // size):
        state = step(params, random(1, size, layer.width), state)
    return state


def rewinding(state) -> Callable:
    """A function that sets the places and counts of a state back to those of now.

    The cached tokens stay, because they do not change the time of a step.
    """
    import jax
    import jax.numpy as jnp

    whole = lambda a: jnp.issubdtype(a.dtype, jnp.integer)
    now = [np.asarray(a) if whole(a) else None for a in jax.tree.leaves(state)]

    def rewind(state):
        leaves, tree = jax.tree.flatten(state)
        return tree.unflatten([a if first is None else jnp.array(first) for a, first in zip(leaves, now, strict=True)])

    return rewind
