"""Vectors of real numbers."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from seqjax.emissions._base import Emission as _Emission
from seqjax.emissions._base import apart, tell
from seqjax.ops import gaussian
from seqjax.ops.gaussian import product
from seqjax.types import Fraction, NonNegative

LEAST = 1e-30  # of a variance


class Gaussian(_Emission, kw_only=True):
    """Gaussian: a mean per state, and a variance or a covariance of four kinds.

        p(x | z = k) = N(x; mean_k, S_k)

    covariance: "spherical" (one variance per state), "diagonal" (one per feature), "full", "tied" (full, and the same
      for all states; in a mixture, for the components of a state).
    variance_floor: no variance gets below this share of the data's variance of the feature; of a full covariance, no
      variance of a feature given the features before it. The maximum under this bound is exact.
    prior_count: as if each state had seen so many more vectors, at its mean, with the variance of the data: the mode of
      an inverse Wishart prior. 0 is maximum likelihood.

    Of a vector with missing features, the density is that of the others: the marginal. Parameters: `mean`, `log_scale`
    = log of the standard deviation, for a full covariance of each feature given those before it, and `lower`
    (`seqjax.ops.gaussian`).
    """

    covariance: Literal["spherical", "diagonal", "tied", "full"] = "diagonal"
    variance_floor: Fraction = 1e-3
    prior_count: NonNegative = 0.0

    kinds = ("real",)

    def __post_init__(self):
        super().__post_init__()
        if len(self.field.shape) != 1:
            raise ValueError(f"a Gaussian emission reads vectors, got features of shape {list(self.field.shape)}.")

    @property
    def width(self) -> int:
        """F, the number of features."""
        return self.field.shape[0]

    @property
    def matrices(self) -> int:
        """G, the number of covariance matrices; 0: there are only variances."""
        return {"full": self.states, "tied": self.groups}.get(self.covariance, 0)

    @property
    def complete(self) -> bool:
        """A full covariance expects what is missing."""
        return not (self.matrices and self.field.missing)

    @property
    def free_parameters(self):
        K, F = self.states, self.width
        return K * F + {"spherical": K, "diagonal": K * F}.get(self.covariance, self.matrices * F * (F + 1) // 2)

    def setup(self):
        K, F, G = self.states, self.width, self.matrices
        self.mean = self.param("mean", nn.initializers.normal(1.0), (K, F))
        shape = (G, F) if G else (K, {"spherical": 1, "diagonal": F}[self.covariance])
        self.log_scale = self.param("log_scale", nn.initializers.zeros, shape)
        if G:
            self.lower = self.param("lower", nn.initializers.zeros, (G, F * (F - 1) // 2))

    def _each(self, of, *args):
        """`of(mean_F, U_FF, log_scale_F, *args of the state)` of each state, one after the other: (K, ...)."""
        of_K = jnp.arange(self.states) // (self.states // self.matrices)
        U_GFF = gaussian.unpack(self.lower, self.width)
        one = lambda a: of(a[0], U_GFF[a[1]], self.log_scale[a[1]], *a[2:])
        return jax.lax.map(jax.checkpoint(one), (self.mean, of_K, *args))  # gradients hold one state, too

    def __call__(self, x, observed=None):
        self.check(x)
        x_NF = x.reshape(-1, self.width)
        seen_NF = None if observed is None else observed.reshape(x_NF.shape)
        if self.matrices:
            density = lambda mean_F, *of: gaussian.log_density(x_NF - mean_F[None], *of, seen_NF)
            score_NK = self._each(density).T
        else:
            log_scale_KF = jnp.broadcast_to(self.log_scale, self.mean.shape)
            score_NK = gaussian.diagonal(x_NF, self.mean, log_scale_KF, seen_NF)
        return score_NK.reshape(*x.shape[:-1], self.states)

    def statistics(self, x, weight_BLK, observed=None, hard=False):
        """Of the given values: count, sum and square of x - mean, (K, F) each. Of a full covariance also, with what is
        missing replaced by what the state expects: mass (K,), shift (K, F) and scatter (G, F, F)."""
        self.check(x)
        x_NF, weight_NK = x.reshape(-1, self.width), weight_BLK.reshape(-1, self.states)
        seen_NF = None if observed is None else observed.reshape(x_NF.shape)
        sums = gaussian.moments(x_NF, weight_NK, self.mean, seen_NF)
        found = dict(zip(("count", "sum", "square"), sums, strict=True))
        if not self.matrices:
            return found

        def expect(mean_F, U_FF, log_scale_F, weight_N):
            offset_NF, rest_FF = x_NF - mean_F[None], 0
            if seen_NF is not None:
                offset_NF, rest_NFF = gaussian.filled(offset_NF, U_FF, log_scale_F, seen_NF)
                rest_FF = product("N,NFE->FE", weight_N, rest_NFF)
            weighed_NF = weight_N[:, None] * offset_NF
            return jnp.sum(weighed_NF, axis=0), product("NF,NE->FE", weighed_NF, offset_NF) + rest_FF

        shift_KF, scatter_KFF = self._each(expect, weight_NK.T)
        return found | {"mass": jnp.sum(weight_NK, axis=0), "shift": shift_KF, "scatter": self._grouped(scatter_KFF)}

    def sample(self, key, state_X):
        z_XF = jax.random.normal(key, (*state_X.shape, self.width))
        if not self.matrices:
            return self.mean[state_X] + jnp.exp(self.log_scale)[state_X] * z_XF
        of_X = state_X // (self.states // self.matrices)
        _, root_GFF = gaussian.eliminate(gaussian.unpack(self.lower, self.width))
        z_XF = z_XF * jnp.exp(self.log_scale)[of_X]
        return self.mean[state_X] + product("...FE,...E->...F", root_GFF[of_X], z_XF)

    @nn.nowrap
    def describe(self, params, symbol, first=0):
        """Mean ± standard deviation."""
        mean_KF, scale_KF = np.asarray(params["mean"]), np.exp(params["log_scale"])
        if self.matrices:
            _, root_GFF = gaussian.eliminate(gaussian.unpack(params["lower"], self.width))
            scale_GF = np.sqrt(np.sum(np.square(root_GFF * scale_KF[:, None]), axis=-1))
            scale_KF = np.repeat(scale_GF, self.states // self.matrices, axis=0)
        scale_KF = np.broadcast_to(scale_KF, mean_KF.shape)
        shown = lambda k, f: f"feature {first + f}: {mean_KF[k, f]:.3g} ± {scale_KF[k, f]:.2g}"
        return [", ".join(shown(k, f) for f in named_N) for k, named_N in enumerate(apart(mean_KF, scale_KF))]

    @nn.nowrap
    def solve(self, statistics, params):
        count_KF, total_KF, square_KF = (statistics[name] for name in ("count", "sum", "square"))
        variance_F = self._variance(statistics, params)
        extra = self.prior_count
        if self.matrices:
            mass_K, count_KF, total_KF = statistics["mass"], statistics["mass"][:, None], statistics["shift"]
        step_KF = total_KF / _safe(count_KF)
        found = {"mean": params["mean"] + step_KF}
        floor_1F = jnp.maximum(self.variance_floor * variance_F, LEAST)[None]
        if self.matrices:
            between_KFF = mass_K[:, None, None] * step_KF[:, :, None] * step_KF[:, None, :]
            within_GFF = statistics["scatter"] - self._grouped(between_KFF)
            has_G1 = (total_G := self._grouped(mass_K))[:, None] > 0
            S_GFF = (within_GFF + extra * jnp.diag(variance_F)[None]) / _safe(total_G + extra)[:, None, None]
            d_GF, U_GFF = gaussian.eliminate(S_GFF)
            found["lower"] = jnp.where(has_G1, gaussian.pack(U_GFF), params["lower"])
        else:
            within_KF = square_KF - count_KF * step_KF**2 + extra * variance_F[None]
            total_KF, has_G1 = count_KF + extra, count_KF > 0
            if self.covariance == "spherical":
                within_KF, total_KF = within_KF.sum(1, keepdims=True), total_KF.sum(1, keepdims=True)
                floor_1F, has_G1 = floor_1F.mean(), has_G1.any(1, keepdims=True)
            d_GF = within_KF / _safe(total_KF)
        log_scale = 0.5 * jnp.log(jnp.maximum(d_GF, floor_1F))
        return found | {"log_scale": jnp.where(has_G1, log_scale, params["log_scale"])}

    @nn.nowrap
    def recentre(self, statistics, params, new):
        by_KF = params["mean"] - new["mean"]
        n_KF, sum_KF, square_KF = (statistics[name] for name in ("count", "sum", "square"))
        moved = {"count": n_KF, "sum": sum_KF + n_KF * by_KF, "square": square_KF + by_KF * (2 * sum_KF + n_KF * by_KF)}
        if not self.matrices:
            return moved
        shift_KF, mass_K1 = statistics["shift"], statistics["mass"][:, None]
        cross_KFF = by_KF[:, :, None] * (shift_KF + 0.5 * mass_K1 * by_KF)[:, None, :]
        scatter_GFF = statistics["scatter"] + self._grouped(cross_KFF + jnp.swapaxes(cross_KFF, 1, 2))
        return moved | {"mass": statistics["mass"], "shift": shift_KF + mass_K1 * by_KF, "scatter": scatter_GFF}

    @nn.nowrap
    def log_prior(self, statistics, params):
        variance_F = self._variance(statistics, params)
        log_scale = params["log_scale"]
        if self.covariance == "spherical":
            log_scale = jnp.broadcast_to(log_scale, params["mean"].shape)
        precision_GF = jnp.exp(-2 * log_scale)
        if self.matrices:
            U_GFF = gaussian.unpack(params["lower"], self.width)
            precision_GF = jnp.sum(U_GFF**2 * precision_GF[..., None], axis=1)  # the diagonal of the inverse of S
        return -0.5 * self.prior_count * jnp.sum(2 * log_scale + variance_F[None] * precision_GF)

    @nn.nowrap
    def begin(self, params, x, state_BL, key, observed=None, n_init=1):
        given_NF = np.broadcast_to((np.asarray(state_BL) >= 0)[..., None], x.shape).reshape(-1, self.width)
        given_NF = given_NF if observed is None else given_NF & np.reshape(observed, given_NF.shape)
        x_NF = np.reshape(x, given_NF.shape)
        least_F, most_F = np.where(given_NF, x_NF, np.inf).min(0), np.where(given_NF, x_NF, -np.inf).max(0)
        if (count_F := given_NF.sum(0)).min() < 2:
            raise ValueError(
                f"a variance needs two values, got {count_F.min()} of {tell(count_F < 2, self.width)}: give a larger "
                "first batch (loader.batch_size), or remove these columns."
            )
        if (least_F == most_F).any():
            same = tell(least_F == most_F, self.width)
            is_constant = "are constant, so their" if (least_F == most_F).sum() > 1 else "is constant, so its"
            raise ValueError(
                f"{same} of the first batch {is_constant} density is infinite: remove such columns, or give a larger "
                "batch (loader.batch_size)."
            )
        return super().begin(params, x, state_BL, key, observed)

    @nn.nowrap
    def _variance(self, statistics, params):
        """The variance of each feature over all states and given values, which no parameter changes: (F,)."""
        params = jax.lax.stop_gradient(params)
        count_KF, sum_KF, square_KF = (statistics[name] for name in ("count", "sum", "square"))
        total_F = _safe(jnp.sum(count_KF, axis=0))
        centre_F = jnp.sum(count_KF * params["mean"], axis=0) / total_F
        by_KF = params["mean"] - centre_F[None]
        centre_F = jnp.sum(count_KF * by_KF + sum_KF, axis=0) / total_F  # what is left of rounding, and the sums
        by_KF = by_KF - centre_F[None]
        return jnp.sum(square_KF + by_KF * (2 * sum_KF + count_KF * by_KF), axis=0) / total_F

    @nn.nowrap
    def _grouped(self, a_KX):
        """Sums over the states that share a matrix: (K, ...) -> (G, ...)."""
        return a_KX.reshape(self.matrices, -1, *a_KX.shape[1:]).sum(1)


def _safe(count):
    return jnp.where(count > 0, count, 1)


Emission = Gaussian
