"""The train state: all arrays that pass from step to step."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from seqjax.training.guard import Norms
from seqjax.types import ConfigError


@struct.dataclass
class State:
    """The train state; a pytree of arrays, the same for every layout of devices.

    step: int32, steps done. key: raw bits of the run's PRNG key; a step draws from fold_in(key, step).
    ema: moving average of params, or None. bad: int32, bad steps in a row up to this one (see `guard.Guard`).
    carry: the model's state after the last batch, one row per row of the batch, or None if it is not carried.
    norms: running mean of gradient norms, or None if the guard does not check for spikes.
    aux: further arrays by name, such as the parameters of a frozen teacher; cut over devices like parameters.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    key: jax.Array
    ema: Any
    bad: jax.Array
    carry: Any = None
    norms: Norms | None = None
    aux: dict = struct.field(default_factory=dict)

    @property
    def eval_params(self):
        """The parameters to evaluate and decode with: the moving average, if there is one."""
        return self.params if self.ema is None else self.ema


def restarted(state: State, params, learner) -> State:
    """A state before its first step with other parameters."""
    ema = None if state.ema is None else jax.tree.map(jnp.copy, params)
    return state.replace(params=params, opt_state=learner.init(params), ema=ema)


def parameters(model, task, batch, key):
    """The parameters before the first step. Raises ConfigError unless `task.length` fits `task.reads`."""
    reads, (_, L) = task.reads(batch), batch["mask"].shape
    if (read := jax.tree.leaves(reads.x)[0].shape[1]) != task.length(L):
        raise ConfigError(
            f"task: {type(task).__name__} reads {read} of {L} tokens, but length({L})={task.length(L)}: return {read}."
        )
    return model.init(key, reads.x, **reads.keywords(model))["params"]


def matrices(model, task, batch):
    """For each parameter, whether it is a matrix: it has several axes, and its module does not name it in `vectors`."""
    vectors = set()

    def note(method, args, kwargs, context):
        names = getattr(context.module, "vectors", ())
        vectors.update((*context.module.path, name) for name in names)
        return method(*args, **kwargs)

    with nn.intercept_methods(note):
        params = jax.eval_shape(functools.partial(parameters, model, task, batch), jax.random.key(0))
    is_matrix = lambda path, p: p.ndim > 1 and tuple(key.key for key in path) not in vectors
    return jax.tree_util.tree_map_with_path(is_matrix, params)


def init(model, task, learner, batch, seed: int, ema: bool, spike: bool = False) -> State:
    """The state before the first step; jit it, or `jax.eval_shape` it for only the shapes."""
    init_key, run_key = jax.random.split(jax.random.key(seed))
    params = parameters(model, task, batch, init_key)
    return State(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=learner.init(params),
        key=jax.random.key_data(run_key),
        ema=jax.tree.map(jnp.copy, params) if ema else None,
        bad=jnp.zeros((), jnp.int32),
        carry=model.init_state(len(batch["weight"])) if task.carry_state else None,
        norms=Norms.zero() if spike else None,
    )
