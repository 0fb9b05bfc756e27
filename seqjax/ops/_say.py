"""Which of several backends computes a layer, for the log."""

import functools
import logging

import jax

log = logging.getLogger(__name__)


@functools.cache
def say(layer: str, choice: str, reason: str) -> str:
    """Logs the choice of a backend, once per choice and reason; where there is no choice, for debugging only."""
    level = logging.INFO if jax.default_backend() == "gpu" else logging.DEBUG
    log.log(level, "%s: backend %s (%s)", layer, choice, reason)
    return choice
