"""Greedy decoding."""

import dataclasses

import jax.numpy as jnp

from seqjax.decoding._stepwise import Stepwise


@dataclasses.dataclass(frozen=True)
class Greedy(Stepwise):
    """The likeliest token at every step: argmax_v p(v | all before it); the first of equal ones."""

    def choose(self, key, logits_BV):
        return jnp.argmax(logits_BV, axis=-1)


Decoder = Greedy
