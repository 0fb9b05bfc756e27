"""Evaluates a trained model on other data: the same parameters, more or longer examples."""

import numpy as np

from seqjax import config
from seqjax.training import cost
from seqjax.training.capacity import fitted, tokens_read
from seqjax.training.experiment import Experiment, resolve
from seqjax.types import ConfigError


def elsewhere(experiment: Experiment, assignment: str) -> Experiment:
    """The same model on other data: `elsewhere(experiment, "data.length=512")`. Caches grow if they are too small.

    Raises:
      ConfigError: it is not a key of data, or the model has other parameters there, or its tokens mean something else.
    """
    if not assignment.startswith("data."):
        raise ConfigError(f"got {assignment}, wanted a key of data, such as data.length=512.")
    tree = resolve(config.override(experiment.config, [assignment]))
    there = Experiment(tree, saved=experiment.tokenizer)
    slots, have = tokens_read(there), there.model.capacity
    if have is not None and have < slots:
        there = Experiment({**tree, "model": fitted(tree["model"], slots)}, saved=experiment.tokenizer)
    new, old = (cost.parameter_table(e.shapes.params) for e in (there, experiment))
    if changed := [path for path, shape, size in new if (path, shape, size) not in old]:
        raise ConfigError(
            f"with {assignment} parameter {changed[0]} is not the trained one: the model cannot be evaluated there."
        )
    for kind, new, old in zip(("token", "class"), _meanings(there.source), _meanings(experiment.source), strict=True):
        for i in (i for i, pair in enumerate(zip(new, old, strict=True)) if pair[0] != pair[1]):
            raise ConfigError(
                f"with {assignment} {kind} {i} is {new[i]!r} and was {old[i]!r} in training: the model cannot be "
                "evaluated there."
            )
    return there


def _meanings(source) -> tuple[list, list]:
    """The meanings of the tokens of a source, if it can decode them, and its classes."""
    try:
        tokens = [source.decode(np.array([i])) for i in range(source.spec.vocabulary or 0)]
    except NotImplementedError:
        tokens = []
    return tokens, list(getattr(source, "classes", None) or [])
