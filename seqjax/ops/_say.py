"""Logs which backend computes a layer."""

import functools
import logging

import jax

log = logging.getLogger(__name__)


@functools.cache
def say(layer: str, choice: str, reason: str) -> str:
    """Logs the chosen backend, once per choice and reason: as INFO on a GPU, else as DEBUG."""
    level = logging.INFO if jax.default_backend() == "gpu" else logging.DEBUG
    log.log(level, "%s: backend %s (%s)", layer, choice, reason)
    return choice
