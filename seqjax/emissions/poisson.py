"""Counts."""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from seqjax.emissions._base import TINY, apart, tell
from seqjax.emissions._base import Emission as _Emission
from seqjax.types import NonNegative, Range


class Poisson(_Emission, kw_only=True):
    """Poisson: independent counts, each with a rate per state.

        p(x | z = k) = prod_f rate_kf^x_f exp(-rate_kf) / x_f!

    The features are whole numbers of at least 0. `prior_shape` and `prior_rate` are those of a gamma prior of each
    rate, of which `solve` takes the mode: rate = (sum of x + shape - 1) / (count + prior_rate); 1 and 0 are maximum
    likelihood.
    """

    prior_shape: Annotated[float, Range(least=1)] = 1.0
    prior_rate: NonNegative = 0.0

    kinds = ("real",)

    @property
    def width(self) -> int:
        """F, the number of counts."""
        return self.field.shape[-1]

    @property
    def free_parameters(self):
        return self.states * self.width

    def setup(self):
        self.log_rate = self.param("log_rate", nn.initializers.normal(1.0), (self.states, self.width))

    def __call__(self, x, observed=None):
        self.check(x)
        log_rate_FK = self.log_rate.T[None, None]
        each_BLFK = x[..., None] * log_rate_FK - jnp.exp(log_rate_FK) - jax.scipy.special.gammaln(x + 1)[..., None]
        return jnp.sum(each_BLFK if observed is None else jnp.where(observed[..., None], each_BLFK, 0), axis=-2)

    def statistics(self, x, weight_BLK, observed=None, hard=False):
        self.check(x)
        seen_BLF = jnp.ones(x.shape) if observed is None else observed.astype(jnp.float32)
        total = lambda a_BLF: jnp.einsum("BLK,BLF->KF", weight_BLK, a_BLF, precision="highest")
        return {"count": total(seen_BLF), "sum": total(seen_BLF * x)}

    def sample(self, key, state_X):
        return jax.random.poisson(key, jnp.exp(self.log_rate[state_X])).astype(jnp.float32)

    @nn.nowrap
    def describe(self, params, symbol, first=0):
        rate_KF = np.exp(params["log_rate"])
        shown = lambda k, f: f"feature {first + f}: rate {rate_KF[k, f]:.3g}"
        return [", ".join(shown(k, f) for f in named_N) for k, named_N in enumerate(apart(rate_KF, rate_KF**0.5))]

    @nn.nowrap
    def solve(self, statistics, params):
        count_KF = statistics["count"]
        has_KF = count_KF > 0
        rate_KF = (statistics["sum"] + self.prior_shape - 1) / (jnp.where(has_KF, count_KF, 1) + self.prior_rate)
        return {"log_rate": jnp.where(has_KF, jnp.log(jnp.maximum(rate_KF, TINY)), params["log_rate"])}

    @nn.nowrap
    def log_prior(self, statistics, params):
        log_rate_KF = params["log_rate"]
        return jnp.sum((self.prior_shape - 1) * log_rate_KF - self.prior_rate * jnp.exp(log_rate_KF))

    @nn.nowrap
    def begin(self, params, x, state_BL, key, observed=None, n_init=1):
        real_BLF = (np.asarray(state_BL) >= 0)[..., None] & (True if observed is None else np.asarray(observed))
        if (off_BLF := real_BLF & ((x < 0) | (x != np.floor(x)))).any():
            raise ValueError(
                f"a Poisson emission wants whole numbers of at least 0, got {x[off_BLF][0]:g} in "
                f"{tell(off_BLF.any((0, 1)), self.width)}: choose another emission, or remove these columns."
            )
        return super().begin(params, x, state_BL, key, observed)


Emission = Poisson
