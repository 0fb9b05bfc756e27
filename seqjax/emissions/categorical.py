"""One of V values."""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from seqjax.emissions._base import TINY, log_shares
from seqjax.emissions._discrete import Discrete
from seqjax.types import Range


class Categorical(Discrete, kw_only=True):
    """Categorical: a probability for each of V ids.

        p(x = v | z = k) = softmax_v(logits_kv)

    The ids are the tokens. One real column that holds whole numbers is read as ids below `size`, so that a value can be
    missing, and a `product` can have such a column. `concentration` is that of a symmetric Dirichlet prior, of which
    `solve` takes the mode: p ~ count + concentration - 1; 1 is maximum likelihood.

    Raises:
      ValueError: there are several columns, or a real one without `size`.
    """

    concentration: Annotated[float, Range(least=1)] = 1.0

    @property
    def free_parameters(self):
        return self.states * (self.categories - 1)

    def setup(self):
        self.logits = self.param("logits", nn.initializers.normal(1.0), (self.states, self.categories))

    @nn.nowrap
    def solve(self, statistics, params):
        return {"logits": log_shares(statistics["count"], self.concentration, params["logits"])}

    @nn.nowrap
    def log_prior(self, statistics, params):
        return (self.concentration - 1) * jnp.sum(jnp.maximum(jax.nn.log_softmax(params["logits"]), np.log(TINY)))

    @nn.nowrap
    def begin(self, params, x, state_BL, key, observed=None, n_init=1):
        state_BL = np.asarray(state_BL)
        real = state_BL >= 0
        x_BL, observed_BL = self.ids(np.asarray(x), observed)
        real = real if observed_BL is None else real & observed_BL
        if self.size is not None and (off := real & ((x[..., 0] != x_BL) | (x_BL < 0) | (x_BL >= self.size))).any():
            raise ValueError(
                f"a categorical emission with size={self.size} wants whole numbers in 0 ... {self.size - 1}, got "
                f"{x[off][0, 0]:g}: choose another emission for this column, or correct size."
            )
        # One more of each, as what a state cannot emit at the start it never learns to emit.
        count_KV = np.zeros((self.states, self.categories), np.float32)
        np.add.at(count_KV, (state_BL[real], x_BL[real]), 1)
        return {"logits": log_shares(count_KV, self.concentration + 1, params["logits"])}


Emission = Categorical
