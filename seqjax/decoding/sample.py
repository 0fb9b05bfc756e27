"""Sampling: temperature, top-k, top-p."""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp

from seqjax.decoding._stepwise import Stepwise
from seqjax.types import Count, NonNegative, Range

ROUNDING = 2.0**-20  # relative tolerance: 0.5 + 0.3 in float32 must reach top_p=0.8


@dataclasses.dataclass(frozen=True)
class Sample(Stepwise):
    """Draws the next token from the model's distribution, sharpened and cut.

        p = softmax(logits / temperature), restricted to the `top_k` likeliest tokens and then to the fewest
        whose total probability reaches `top_p`

    temperature 0 is greedy. The same key gives the same tokens. `samples`: number of continuations of each prompt.
    Nucleus (top-p): Holtzman et al. 2020, arXiv:1904.09751.
    """

    temperature: NonNegative = 1.0
    top_k: Count | None = None
    top_p: Annotated[float, Range(above=0, most=1)] = 1.0
    samples: Count = 1

    def choose(self, key, logits_BV):
        if self.temperature < jnp.finfo(jnp.float32).tiny:
            return jnp.argmax(logits_BV, axis=-1)
        logits_BV = logits_BV.astype(jnp.float32)  # noise in half precision would favour some of many tokens
        ahead_BV = logits_BV - jnp.max(logits_BV, axis=-1, keepdims=True)  # else a small temperature gives equal infs
        return jax.random.categorical(key, self.filter(ahead_BV / self.temperature), axis=-1)

    def filter(self, logits_BV):
        """Logits with -inf where a token may not be drawn. The likeliest token, first of equals, always may."""
        if self.top_k is not None and self.top_k < logits_BV.shape[-1]:
            _, best_BK = jax.lax.top_k(logits_BV, self.top_k)
            logits_BV = _only(logits_BV, best_BK, jnp.ones(best_BK.shape, bool))
        if self.top_p < 1:
            order_BV = jnp.argsort(logits_BV, axis=-1, descending=True)
            p_BV = jax.nn.softmax(jnp.take_along_axis(logits_BV, order_BV, axis=-1), axis=-1)
            sum_BV = jnp.cumsum(p_BV, axis=-1)
            before_BV = jnp.pad(sum_BV, ((0, 0), (1, 0)))[:, :-1]  # total probability of the likelier tokens
            logits_BV = _only(logits_BV, order_BV, before_BV < self.top_p * (1 - ROUNDING))
        return logits_BV


def _only(logits_BV, index_BK, may_BK):
    """Logits, with -inf except at the indices that may be drawn."""
    rows_B1 = jnp.arange(len(logits_BV))[:, None]
    return jnp.where(jnp.zeros(logits_BV.shape, bool).at[rows_B1, index_BK].set(may_BK), logits_BV, -jnp.inf)


Decoder = Sample
