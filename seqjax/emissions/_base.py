"""The contract of an emission."""

from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from seqjax.module import Module
from seqjax.spec import Field, Spec
from seqjax.types import Count, Injected

TINY = float(np.finfo(np.float32).tiny)  # the log of a probability of 0 is written as the log of this
NAMED = 6  # how many values, features or components of a state a description names


class Emission(Module, kw_only=True):
    """Density of a token in each state, log p(x_t | z_t = k), in float32, with what expectation maximisation needs.

    `inputs` is the spec of the data source; x is its `tokens` (B, L) or `features` (B, L, F), finite and in range at
    every place, masked ones included. `states` is the number of states K, which come in `groups` of equal size: what
    states share, they share within a group.

    Parameters are free numbers (logits, logs of scales), so any optimiser can train them. `statistics` are sums over
    tokens; they are centred at the means of the parameters that made them, since E[x^2] - E[x]^2 cancels in float32.
    """

    inputs: Annotated[Spec, Injected]
    states: Annotated[Count, Injected]
    groups: Annotated[Count, Injected] = 1

    kinds = ()  # the kinds of fields that it reads
    complete = True  # whether the state and x say all that it counts; a mixture also has hidden components
    vectors = ("logits", "mean", "log_scale", "lower", "log_rate")

    def __post_init__(self):
        super().__post_init__()
        if self.field.kind not in self.kinds:
            raise ValueError(
                f"{type(self).__name__} emits {' or '.join(self.kinds)} values, but the data have {self.name_of_field} "
                f"({self.field.kind}): choose another emission, or other data."
            )

    @property
    def name_of_field(self) -> str:
        """The field that x is."""
        return "tokens" if "tokens" in self.inputs.fields else "features"

    @property
    def field(self) -> Field:
        """The description of x."""
        return self.inputs.fields[self.name_of_field]

    @property
    def free_parameters(self) -> int:
        """The number of free parameters, for AIC and BIC."""
        raise NotImplementedError

    @property
    def solvable(self) -> bool:
        """Whether it has `solve`; without, only gradients train it."""
        return type(self).solve is not Emission.solve

    def check(self, x) -> None:
        """Raises ValueError unless x has the dtype and the shape of its field."""
        whole, shape = jnp.issubdtype(x.dtype, jnp.integer), self.field.shape
        if whole != (self.field.kind == "ids") or x.ndim != 2 + len(shape) or x.shape[2:] != shape:
            wanted = "integers" if self.field.kind == "ids" else "real numbers"
            raise ValueError(
                f"{self.name_of_field}: got {x.dtype}{list(x.shape)}, {type(self).__name__} wants "
                f"[{', '.join(['B', 'L', *map(str, shape)])}] {wanted}, as the data source has."
            )

    def __call__(self, x, observed=None):
        """log p(x_t | z_t = k) in nats: -> (B, L, K).

        Args:
          x: ids (B, L), or vectors (B, L, F).
          observed: bool, of the shape of x, True = given; None: all are. What is missing adds nothing: the density is
            that of the rest.

        Raises:
          ValueError: x has another dtype or shape than its field.
        """
        raise NotImplementedError

    def statistics(self, x, weight_BLK, observed=None, hard: bool = False):
        """Sums over all tokens of weight * sufficient statistics, a tree that adds up over rows and batches.

        Args:
          weight_BLK: the weight of each token in each state, at least 0; 0 where masked.
          hard: of several parts of a state, only the most probable one counts.
        """
        raise NotImplementedError

    def sample(self, key, state_X):
        """Draws an x for each state."""
        raise NotImplementedError

    @nn.nowrap
    def describe(self, params, symbol: Callable[[int], str], first: int = 0) -> list[str]:
        """What each state emits, in words; by default nothing is said.

        Args:
          params: host arrays.
          symbol: the text of an id of `tokens`.
          first: the number of the first feature.
        """
        return [""] * self.states

    @nn.nowrap
    def solve(self, statistics, params):
        """The parameters that maximise the expected log p of the statistics, and the log of the prior.

        The statistics are of `params`; a state without weight keeps its parameters.
        """
        raise NotImplementedError

    @nn.nowrap
    def recentre(self, statistics, params, new):
        """The statistics of `params` as if `new` had made them with the same weights: for sums over several steps."""
        return statistics

    @nn.nowrap
    def log_prior(self, statistics, params):
        """The log of the prior of `params`, up to a constant. The statistics are of `params`, over all data."""
        return jnp.float32(0)

    @nn.nowrap
    def begin(self, params, x, state_BL, key, observed=None, n_init: int = 1):
        """The first parameters, from data; on the host.

        Args:
          x, observed: as in a call, but concrete arrays.
          state_BL: the state that each token is given to, int; -1: none, as for a masked one.
          key: of what is random in it, such as the start of k-means.
          n_init: the number of starts of k-means, of which the best one is kept.

        Raises:
          ValueError: the data cannot determine the parameters.
        """

        @jax.jit
        def better(params, x, state_BL, observed):
            weight_BLK = jax.nn.one_hot(state_BL, self.states)
            return self.solve(self.apply({"params": params}, x, weight_BLK, observed, method="statistics"), params)

        for _ in range(2):  # the second time, the statistics are centred where the data are
            params = better(params, x, state_BL, observed)
        return params


def log_shares(count_XM, concentration: float, old_XM):
    """log of count + concentration - 1, normalised over M, the mode of a Dirichlet prior; where nothing counts, `old`.

    A share of 0 becomes the smallest normal number of float32, so that gradients stay finite.
    """
    total_X1 = jnp.sum(count_XM, axis=-1, keepdims=True)
    share_XM = count_XM + (concentration - 1)
    share_XM = share_XM / jnp.where(total_X1 > 0, jnp.sum(share_XM, axis=-1, keepdims=True), 1)
    return jnp.where(total_X1 > 0, jnp.log(jnp.maximum(share_XM, TINY)), old_XM)


def apart(mean_KF, spread_KF):
    """The features in which each state differs most from the mean of all states, in units of its spread: (K, N)."""
    far_KF = np.abs(mean_KF - np.mean(mean_KF, axis=0)) / spread_KF
    return np.sort(np.argsort(-far_KF, axis=1, kind="stable")[:, :NAMED], axis=1)


def tell(chosen_B, F: int) -> str:
    """The columns that are True, for an error: `features 0, 3`."""
    found = np.flatnonzero(np.broadcast_to(chosen_B, (F,)))
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return f"feature{'s' * (len(found) > 1)} {', '.join(map(str, found[:5]))}{more}"
