"""Gaussian vectors by regression: each feature given those before it, which makes a covariance of any free numbers.

The inverse of a covariance S is U^T diag(d)^-1 U, where U is triangular with ones on its diagonal, and d_f is the
variance of feature f given the features before it (Pourahmadi 1999, "Joint mean-covariance models with applications to
longitudinal data", Biometrika 86(3)). Every lower part of U and every positive d belong to exactly one S.
"""

import math

import jax
import jax.numpy as jnp

CHUNK = 2**20  # numbers that the vectors of a chunk take in all states together
HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)
RANK = 1e-6  # a pivot below this share of its diagonal is rounding: float32 has 7 digits


def eliminate(S_XFF):
    """Solves U S = diag(d) U^-T by elimination: (..., F, F) -> d (..., F) and U (..., F, F).

    S is a covariance, and may be singular: a feature that those before it determine has d = 0 and explains no later
    one. Of a triangular matrix with ones on its diagonal, U is the inverse. (It calls no LAPACK, which waits forever if
    XLA calls it from several threads.)
    """
    shape, F = S_XFF.shape, S_XFF.shape[-1]
    S_XFF = S_XFF.reshape(-1, F, F)
    own_XF1 = jnp.diagonal(S_XFF, axis1=1, axis2=2)[..., None]
    both_XFE = jnp.concatenate([S_XFF, jnp.broadcast_to(jnp.eye(F, dtype=S_XFF.dtype), S_XFF.shape)], axis=2)

    def step(f, both_XFE):
        row_X1E = jax.lax.dynamic_slice_in_dim(both_XFE, f, 1, axis=1)
        column_XF1 = jax.lax.dynamic_slice_in_dim(both_XFE, f, 1, axis=2)
        pivot_X11 = jax.lax.dynamic_slice_in_dim(row_X1E, f, 1, axis=2)
        explains_X11 = pivot_X11 > RANK * jax.lax.dynamic_slice_in_dim(own_XF1, f, 1, axis=1)
        below_1F1 = jnp.arange(F)[None, :, None] > f
        share_XF1 = jnp.where(below_1F1 & explains_X11, column_XF1, 0) / jnp.where(explains_X11, pivot_X11, 1)
        return both_XFE - share_XF1 * row_X1E

    both_XFE = jax.lax.fori_loop(0, F, step, both_XFE)
    d_XF = jnp.diagonal(both_XFE[..., :F], axis1=1, axis2=2)
    return d_XF.reshape(shape[:-1]), both_XFE[..., F:].reshape(shape)


def unpack(lower_XT, F: int):
    """U from its T = F (F - 1) / 2 numbers below the diagonal, row by row: (..., T) -> (..., F, F)."""
    U_XFF = jnp.broadcast_to(jnp.eye(F, dtype=lower_XT.dtype), (*lower_XT.shape[:-1], F, F))
    return U_XFF.at[..., *jnp.tril_indices(F, -1)].set(lower_XT)


def pack(U_XFF):
    """The numbers below the diagonal of U, row by row."""
    return U_XFF[..., *jnp.tril_indices(U_XFF.shape[-1], -1)]


def covariance(U_XFF, log_scale_XF):
    """S of U and log_scale = log(d) / 2."""
    _, inverse_XFF = eliminate(U_XFF)
    root_XFF = inverse_XFF * jnp.exp(log_scale_XF)[..., None, :]
    return product("...FE,...GE->...FG", root_XFF, root_XFF)


def log_density(offset_NF, U_FF, log_scale_F, observed_NF=None):
    """log N(x; m, S) of x - m, in nats: (N, F) -> (N,). Of the observed features only, if `observed_NF` is given."""
    if observed_NF is None:
        z_NF = product("NF,EF->NE", offset_NF, U_FF) * jnp.exp(-log_scale_F)[None]
        return jnp.sum(-0.5 * z_NF**2 - log_scale_F[None] - HALF_LOG_TAU, axis=-1)
    d_NF, U_NFF = eliminate(_seen(covariance(U_FF, log_scale_F), observed_NF))
    z_NF = product("NF,NEF->NE", jnp.where(observed_NF, offset_NF, 0), U_NFF)
    each_NF = -0.5 * z_NF**2 / d_NF - 0.5 * jnp.log(d_NF) - HALF_LOG_TAU
    return jnp.sum(jnp.where(observed_NF, each_NF, 0), axis=-1)


def filled(offset_NF, U_FF, log_scale_F, observed_NF):
    """What a Gaussian says about missing features, given the observed ones of the same vector.

    Returns:
      E[x - m] (N, F), which is x - m where observed, and Cov[x] (N, F, F), which is 0 where one of both is observed.
    """
    S_FF = covariance(U_FF, log_scale_F)
    d_NF, U_NFF = eliminate(_seen(S_FF, observed_NF))
    root_NFF = product("FG,NG,NEG->NFE", S_FF, observed_NF.astype(S_FF.dtype), U_NFF) / jnp.sqrt(d_NF)[:, None]
    z_NF = product("NF,NEF->NE", jnp.where(observed_NF, offset_NF, 0), U_NFF) / jnp.sqrt(d_NF)
    mean_NF = jnp.where(observed_NF, offset_NF, product("NFE,NE->NF", root_NFF, z_NF))
    rest_NFF = S_FF[None] - product("NFE,NGE->NFG", root_NFF, root_NFF)
    return mean_NF, jnp.where(observed_NF[:, :, None] | observed_NF[:, None, :], 0, rest_NFF)


def diagonal(x_NF, mean_KF, log_scale_KF, seen_NF=None):
    """The log-density of independent features in each state, of the seen ones: (N, F) -> (N, K)."""
    # States are the last axis: the sum over features then runs over whole vectors of states.
    mean_1FK, log_scale_1FK = mean_KF.T[None], log_scale_KF.T[None]

    def density(x_TF, seen_TF):
        z_TFK = (x_TF[..., None] - mean_1FK) * jnp.exp(-log_scale_1FK)
        each_TFK = -0.5 * z_TFK**2 - log_scale_1FK - HALF_LOG_TAU
        return jnp.sum(each_TFK if seen_TF is None else jnp.where(seen_TF[..., None], each_TFK, 0), axis=1)

    chunks = _chunks((x_NF, seen_NF), mean_KF.size)
    score_CTK = jax.lax.map(lambda chunk: jax.checkpoint(density)(*chunk), chunks)  # gradients hold one chunk, too
    return score_CTK.reshape(-1, len(mean_KF))[: len(x_NF)]


def moments(x_NF, weight_NK, mean_KF, seen_NF=None):
    """Weighted sums over vectors, of the seen features: their number, x - mean and (x - mean)^2, (K, F) each."""

    def add(sums, chunk):
        x_TF, weight_TK, seen_TF = chunk
        weight_TKF = weight_TK[..., None]
        if seen_TF is not None:
            weight_TKF = jnp.where(seen_TF[:, None], weight_TKF, 0)
        offset_TKF = x_TF[:, None] - mean_KF[None]
        new = weight_TKF, weight_TKF * offset_TKF, weight_TKF * offset_TKF**2
        return [a_KF + jnp.sum(a_TKF, axis=0) for a_KF, a_TKF in zip(sums, new, strict=True)], None

    zeros = [jnp.zeros_like(mean_KF)] * 3
    return jax.lax.scan(add, zeros, _chunks((x_NF, weight_NK, seen_NF), mean_KF.size))[0]


def _chunks(tree_NX, numbers: int):
    """(N, ...) -> (C, T, ...), the last one filled with zeros, so that (T, `numbers`) is never larger than `CHUNK`."""
    N = len(jax.tree.leaves(tree_NX)[0])
    size = min(N, max(1, CHUNK // numbers))
    pad = lambda a_NX: jnp.pad(a_NX, [(0, -N % size)] + [(0, 0)] * (a_NX.ndim - 1))
    return jax.tree.map(lambda a_NX: pad(a_NX).reshape(-1, size, *a_NX.shape[1:]), tree_NX)


def product(*args):
    """An einsum in full float32, on every device."""
    return jnp.einsum(*args, precision="highest")


def _seen(S_FF, observed_NF):
    """S between observed features, and the identity elsewhere: (N, F, F)."""
    both_NFF = observed_NF[:, :, None] & observed_NF[:, None, :]
    return jnp.where(both_NFF, S_FF[None], jnp.eye(len(S_FF), dtype=S_FF.dtype)[None])
