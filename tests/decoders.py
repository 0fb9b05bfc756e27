"""Decodes in one program for each model and decoder, which serves all calls of the same shapes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.decoding._base import Decoded
from seqjax.tasks._base import Reads
from seqjax.training.net import Net


@functools.cache
def program(model, decoder):
    return jax.jit(lambda params, reads, key: decoder(Net(model, params), reads, key))


def decode(model, params, prompt_BL, decoder, mask_BL=None, seed=0, **side) -> Decoded:
    """What a decoder makes of prompts, in numpy."""
    x_BL = jnp.asarray(prompt_BL)
    mask_BL = np.ones(x_BL.shape, bool) if mask_BL is None else np.asarray(mask_BL)
    reads = Reads(x_BL, mask_BL, side=side)
    return jax.device_get(program(model, decoder)(params, reads, jax.random.key(seed)))
