"""The initial parameters of a model that begins with data, such as the clusters of a mixture."""

import functools
import zlib

import jax
import numpy as np

from seqjax.training.experiment import Experiment
from seqjax.training.state import State, restarted
from seqjax.types import ConfigError


def begin(experiment: Experiment, layout, state: State, shardings) -> State:
    """A state before its first step, with the parameters that the model finds in the first batch.

    Args:
      state: the state with random parameters, as global arrays of `layout`.
      shardings: of the state that is returned.

    Every process reads the whole batch and finds the same.

    Raises:
      ConfigError: the batch does not determine the parameters.
    """
    model, task, batch = experiment.model, experiment.task, experiment.batches.first
    reads = task.reads(batch)
    key = jax.random.fold_in(jax.random.key(experiment.seed), zlib.crc32(b"begin"))
    params = layout.host(state.params)
    try:
        params = model.begin(params, reads.x, key, **reads.keywords(model), **task.known(batch))
    except ValueError as error:
        raise ConfigError(f"model: {error}") from error
    put = jax.jit(functools.partial(restarted, learner=experiment.learner), out_shardings=shardings)
    return put(state, jax.tree.map(np.asarray, params))
