"""What emissions of ids have in common."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from seqjax.emissions._base import NAMED, Emission
from seqjax.types import Count


class Discrete(Emission, kw_only=True):
    """One of V ids, p(x = v | z = k) = softmax_v(logits_kv). A subclass makes `logits` (K, V) in `setup`.

    The ids are the tokens. One real column that holds whole numbers is read as ids below `size`, so that a value can be
    missing, and a `product` can have such a column.

    Raises:
      ValueError: there are several columns, or a real one without `size`.
    """

    size: Count | None = None

    kinds = ("ids", "real")

    def __post_init__(self):
        super().__post_init__()
        real = self.field.kind == "real"
        if real != (self.size is not None) or self.field.shape != (1,) * real:
            raise ValueError(
                f"a {type(self).__name__.lower()} emission reads ids, or one real column with size, got "
                f"{self.name_of_field} ({self.field.kind}, shape {list(self.field.shape)}) with size={self.size}: set "
                "size for a column of ids among the features, and only there; for several columns choose the emission "
                "product."
            )

    @property
    def categories(self) -> int:
        """V, the number of ids."""
        return self.size or self.field.size

    @nn.nowrap
    def ids(self, x, observed):
        """Ids (B, L), and where they are given."""
        self.check(x)
        if self.size is None:
            return x, observed
        return x[..., 0].astype(jnp.int32), None if observed is None else observed[..., 0]

    def __call__(self, x, observed=None):
        x_BL, observed_BL = self.ids(x, observed)
        score_BLK = jnp.take(jax.nn.log_softmax(self.logits).T, x_BL, axis=0)
        return score_BLK if observed_BL is None else jnp.where(observed_BL[..., None], score_BLK, 0)

    def statistics(self, x, weight_BLK, observed=None, hard=False):
        x_BL, observed_BL = self.ids(x, observed)
        if observed_BL is not None:
            weight_BLK = jnp.where(observed_BL[..., None], weight_BLK, 0)
        weight_NK = weight_BLK.reshape(-1, self.states)
        return {"count": jax.ops.segment_sum(weight_NK, x_BL.reshape(-1), self.categories).T}

    def sample(self, key, state_X):
        x_X = jax.random.categorical(key, self.logits[state_X])
        return x_X if self.size is None else x_X[..., None].astype(jnp.float32)

    def table(self):
        """p(x = v | z = k): (K, V)."""
        return jax.nn.softmax(self.logits)

    @nn.nowrap
    def describe(self, params, symbol, first=0):
        p_KV = np.asarray(self.apply({"params": params}, method="table"))
        likely_KN = np.argsort(-p_KV, axis=1, kind="stable")[:, :NAMED]
        feature, symbol = ("", symbol) if self.size is None else (f"feature {first}: ", str)
        shown = lambda p_V, v: f"{symbol(int(v))} {p_V[v]:.0%}"
        rows = zip(p_KV, likely_KN, strict=True)
        return [feature + ", ".join(shown(p_V, v) for v in likely_N if p_V[v] >= 0.005) for p_V, likely_N in rows]
