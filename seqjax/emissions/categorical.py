"""One of V values."""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from seqjax.emissions._base import NAMED, TINY, log_shares
from seqjax.emissions._base import Emission as _Emission
from seqjax.types import Count, Range


class Categorical(_Emission, kw_only=True):
    """Categorical: a probability for each of V ids.

        p(x = v | z = k) = softmax_v(logits_kv)

    The ids are the tokens. One real column that holds whole numbers is read as ids below `size`, so that a value can be
    missing, and a `product` can have such a column. `concentration` is that of a symmetric Dirichlet prior, of which
    `solve` takes the mode: p ~ count + concentration - 1; 1 is maximum likelihood.

    Raises:
      ValueError: there are several columns, or a real one without `size`.
    """

    size: Count | None = None
    concentration: Annotated[float, Range(least=1)] = 1.0

    kinds = ("ids", "real")

    def __post_init__(self):
        super().__post_init__()
        real = self.field.kind == "real"
        if real != (self.size is not None) or self.field.shape != (1,) * real:
            raise ValueError(
                f"a categorical emission reads ids, or one real column with size, got {self.name_of_field} "
                f"({self.field.kind}, shape {list(self.field.shape)}) with size={self.size}: set size for a column of "
                "ids among the features, and only there; for several columns choose the emission product."
            )

    @property
    def categories(self) -> int:
        """V, the number of ids."""
        return self.size or self.field.size

    @property
    def free_parameters(self):
        return self.states * (self.categories - 1)

    def setup(self):
        self.logits = self.param("logits", nn.initializers.normal(1.0), (self.states, self.categories))

    @nn.nowrap
    def _ids(self, x, observed):
        """Ids (B, L), and where they are given."""
        self.check(x)
        if self.size is None:
            return x, observed
        return x[..., 0].astype(jnp.int32), None if observed is None else observed[..., 0]

    def __call__(self, x, observed=None):
        x_BL, observed_BL = self._ids(x, observed)
        score_BLK = jnp.take(jax.nn.log_softmax(self.logits).T, x_BL, axis=0)
        return score_BLK if observed_BL is None else jnp.where(observed_BL[..., None], score_BLK, 0)

    def statistics(self, x, weight_BLK, observed=None, hard=False):
        x_BL, observed_BL = self._ids(x, observed)
        if observed_BL is not None:
            weight_BLK = jnp.where(observed_BL[..., None], weight_BLK, 0)
        weight_NK = weight_BLK.reshape(-1, self.states)
        return {"count": jax.ops.segment_sum(weight_NK, x_BL.reshape(-1), self.categories).T}

    def sample(self, key, state_X):
        x_X = jax.random.categorical(key, self.logits[state_X])
        return x_X if self.size is None else x_X[..., None].astype(jnp.float32)

    @nn.nowrap
    def describe(self, params, symbol, first=0):
        p_KV = np.asarray(jax.nn.softmax(params["logits"]))
        likely_KN = np.argsort(-p_KV, axis=1, kind="stable")[:, :NAMED]
        feature, symbol = ("", symbol) if self.size is None else (f"feature {first}: ", str)
        shown = lambda p_V, v: f"{symbol(int(v))} {p_V[v]:.0%}"
        rows = zip(p_KV, likely_KN, strict=True)
        return [feature + ", ".join(shown(p_V, v) for v in likely_N if p_V[v] >= 0.005) for p_V, likely_N in rows]

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
        x_BL, observed_BL = self._ids(np.asarray(x), observed)
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
