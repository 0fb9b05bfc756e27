"""Several components per state."""

from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from seqjax.emissions._base import NAMED, log_shares
from seqjax.emissions._base import Emission as _Emission
from seqjax.emissions._kmeans import kmeans
from seqjax.emissions.gaussian import Gaussian
from seqjax.types import Count, Part, Range


class Mixture(_Emission, kw_only=True):
    """Mixture: each state has M components of one kind, by default Gaussians, with weights of its own.

        p(x | z = k) = sum_m softmax_m(logits_km) p_km(x)

    `component` is another emission, of which each state has `components`. `concentration` is that of a symmetric
    Dirichlet prior of the weights, of which `solve` takes the mode; 1 is maximum likelihood.
    """

    components: Count
    component: Annotated[Callable, Part("seqjax.emissions", "Emission")] = Gaussian
    concentration: Annotated[float, Range(least=1)] = 1.0

    kinds = ("ids", "real")
    complete = False

    def __post_init__(self):
        super().__post_init__()
        self.make(parent=None)

    @nn.nowrap
    def make(self, **kwargs) -> _Emission:
        """All components of all states, as the states of one emission."""
        sizes = dict(states=self.states * self.components, groups=self.states)
        return self.component(inputs=self.inputs, **sizes, **kwargs)

    @property
    def solvable(self):
        return self.make(parent=None).solvable

    @property
    def free_parameters(self):
        return self.states * (self.components - 1) + self.make(parent=None).free_parameters

    def setup(self):
        self.logits = self.param("logits", nn.initializers.zeros, (self.states, self.components))
        self.inner = self.make(parent=self, name="component")

    @nn.nowrap
    def split(self, a):
        """Components apart from states: (..., K M) -> (..., K, M)."""
        return a.reshape(*a.shape[:-1], self.states, self.components)

    @nn.nowrap
    def joint(self, x, observed):
        """log p(x, m | z = k): (B, L, K, M)."""
        return jax.nn.log_softmax(self.logits)[None, None] + self.split(self.inner(x, observed))

    def __call__(self, x, observed=None):
        return jax.nn.logsumexp(self.joint(x, observed), axis=-1)

    def statistics(self, x, weight_BLK, observed=None, hard=False):
        joint_BLKM = self.joint(x, observed)
        if hard:
            share_BLKM = jax.nn.one_hot(jnp.argmax(joint_BLKM, axis=-1), self.components)
        else:
            share_BLKM = jax.nn.softmax(joint_BLKM)
        weight_BLKM = weight_BLK[..., None] * share_BLKM
        weight_BLK = weight_BLKM.reshape(*weight_BLK.shape[:2], -1)
        inner = self.inner.statistics(x, weight_BLK, observed, hard)
        return {"count": jnp.sum(weight_BLKM, axis=(0, 1)), "component": inner}

    def sample(self, key, state_X):
        which, what = jax.random.split(key)
        component_X = jax.random.categorical(which, self.logits[state_X])
        return self.inner.sample(what, state_X * self.components + component_X)

    @nn.nowrap
    def describe(self, params, symbol, first=0):
        """The heaviest components, each with its weight."""
        inner = self.make(parent=None).describe(params["component"], symbol, first)
        M, found = self.components, []
        for k, p_M in enumerate(np.asarray(jax.nn.softmax(params["logits"]))):
            heavy_N = np.argsort(-p_M, kind="stable")[:NAMED]
            shown = [f"{p_M[m]:.0%} ({inner[k * M + m]})" for m in heavy_N]
            found.append(", ".join(shown) + f", and {M - len(shown)} more" * (len(shown) < M))
        return found

    @nn.nowrap
    def solve(self, statistics, params):
        logits_KM = log_shares(statistics["count"], self.concentration, params["logits"])
        inner = self.make(parent=None).solve(statistics["component"], params["component"])
        return {"logits": logits_KM, "component": inner}

    @nn.nowrap
    def recentre(self, statistics, params, new):
        inner = self.make(parent=None).recentre(statistics["component"], params["component"], new["component"])
        return {**statistics, "component": inner}

    @nn.nowrap
    def log_prior(self, statistics, params):
        inner = self.make(parent=None).log_prior(statistics["component"], params["component"])
        return inner + (self.concentration - 1) * jnp.sum(jax.nn.log_softmax(params["logits"]))

    @nn.nowrap
    def begin(self, params, x, state_BL, key, observed=None, n_init=1):
        """Splits the vectors of each state by k-means; ids are split at random."""
        state_BL, x = np.asarray(state_BL), np.asarray(x)
        part_BL = np.full(state_BL.shape, -1)
        for k in np.unique(state_BL[state_BL >= 0]):
            at, own = state_BL == k, jax.random.fold_in(key, k)
            if self.field.kind == "ids":
                found_N = np.asarray(jax.random.randint(own, (at.sum(),), 0, self.components))
            else:
                seen_NF = None if observed is None else np.asarray(observed)[at]
                found_N = kmeans(x[at], self.components, own, n_init, seen_NF)
            part_BL[at] = k * self.components + found_N
        inner = self.make(parent=None).begin(params["component"], x, part_BL, key, observed, n_init)
        count_KM = self.split(np.bincount(part_BL[part_BL >= 0], minlength=self.states * self.components))
        logits_KM = log_shares(count_KM.astype(np.float32), self.concentration, params["logits"])
        return {"logits": logits_KM, "component": inner}


Emission = Mixture
