"""The simplified state space layer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from seqjax.mixers import _steps
from seqjax.mixers._layers import Dense
from seqjax.mixers._linear import LinearMixer
from seqjax.ops import linear
from seqjax.types import Count


class S5(LinearMixer):
    """S5: one diagonal state space for all channels together, which starts as a memory of Legendre polynomials.

        a   = exp(dt lambda)
        h_t = a * h_{t-1} + (a - 1) / lambda * B x_t
        y_t = 2 Re(C h_t) + d * x_t

    lambda starts as the eigenvalues of the normal part of the HiPPO-LegS matrix, without their conjugates; with several
    `blocks`, as that many copies of those of a smaller matrix. B and C start in the basis of its eigenvectors; dt, one
    per state, is log-uniform in [0.001, 0.1]. Re(lambda) stays below -0.0001, so that no state grows. `state_size` is
    the number of complex states, each of which stands for a conjugate pair; None: half of the width. State: real and
    imaginary part of h, each (B, N), float32.

    Smith et al. 2022, "Simplified state space layers for sequence modeling", arXiv:2208.04933. This mixer is only the
    state space; the paper's layer applies GELU and a gate to y.

    Raises:
      ValueError: blocks do not divide the number of states.
    """

    state_size: Count | None = None
    blocks: Count = 1

    cuttable = True

    def __post_init__(self):
        super().__post_init__()
        if self._states % self.blocks:
            raise ValueError(
                f"mixer.blocks={self.blocks} does not divide the {self._states} states of the mixer: choose another "
                "mixer.state_size, or a divisor of it."
            )

    @property
    def _states(self) -> int:
        return self.state_size or max(1, self.width // 2)

    def setup(self):
        N, D = self._states, self.width
        lambda_N, basis_MN = hippo(N // self.blocks, self.blocks)
        self.real = self.param("real", lambda key: jnp.float32(lambda_N.real))
        self.imaginary = self.param("imaginary", lambda key: jnp.float32(lambda_N.imag))
        self.dt = self.param("dt", _steps.init, (N,))
        # Real and imaginary parts are side by side, in the kernels of B and C.
        dense = lambda n, init: Dense(n, use_bias=False, dtype=self.dtype, kernel_init=init)
        self.inputs = dense(2 * N, functools.partial(_init_inputs, basis_MN))
        self.outputs = dense(D, functools.partial(_init_outputs, basis_MN))
        self.skip = self.param("skip", nn.initializers.normal(1.0), (D,))

    @nn.nowrap
    def init_state(self, batch: int):
        zeros = jnp.zeros((batch, self._states), jnp.float32)
        return zeros, zeros

    def mix(self, x_BLD, state, mask_BL, reset_BL):
        u_BLD = x_BLD.astype(self.dtype)
        b_BLN = lax.complex(*jnp.split(self.inputs(u_BLD).astype(jnp.float32), 2, axis=-1))
        lambda_N = lax.complex(jnp.minimum(self.real, -1e-4), self.imaginary)
        step_N = jax.nn.softplus(self.dt) * lambda_N
        b_BLN = b_BLN * (jnp.expm1(step_N) / lambda_N)[None, None]
        a_BLN = jnp.broadcast_to(jnp.exp(step_N)[None, None], b_BLN.shape)
        h_BLN, end_BN = linear.diagonal(a_BLN, b_BLN, lax.complex(*state), mask_BL, reset_BL)
        # Re(C h) subtracts the imaginary product; here the kernel learns that sign, and the factor 2.
        y_BLD = self.outputs(jnp.concatenate([h_BLN.real, h_BLN.imag], axis=-1))
        return y_BLD + self.skip[None, None] * u_BLD, (end_BN.real, end_BN.imag)


def hippo(N: int, blocks: int = 1):
    """N eigenvalues of the normal part of the HiPPO-LegS matrix of size M = 2 N, and their eigenvectors (M, N).

    The other N are their conjugates. `blocks`: as many copies, the eigenvectors on the diagonal of a larger matrix.
    Gu et al. 2020, "HiPPO", arXiv:2008.07669; Gu et al. 2021, arXiv:2111.00396.
    """
    root_M = np.sqrt(2 * np.arange(2 * N) + 1)
    matrix_MM = np.diag(np.arange(2 * N)) - np.tril(np.outer(root_M, root_M))
    normal_MM = matrix_MM + np.outer(root_M, root_M) / 2  # -1/2 on the diagonal, and skew-symmetric besides
    frequency_M, vector_MM = np.linalg.eigh(-1j * (normal_MM + np.eye(2 * N) / 2))
    return np.tile(-0.5 + 1j * frequency_M[N:], blocks), np.kron(np.eye(blocks), vector_MM[:, N:])


def _init_inputs(basis_MN, key, shape, dtype=jnp.float32):
    """B = V* b, with LeCun's b (M, D); the kernel is (D, 2 N)."""
    b_DM = nn.initializers.lecun_normal()(key, (shape[0], len(basis_MN)), dtype)
    return jnp.concatenate([b_DM @ part for part in (basis_MN.real, -basis_MN.imag)], axis=1).astype(dtype)


def _init_outputs(basis_MN, key, shape, dtype=jnp.float32):
    """2 C = 2 c V, c (D, M) complex, LeCun's by its real and its imaginary part; the kernel is (2 N, D)."""
    real_MD, imaginary_MD = nn.initializers.lecun_normal(batch_axis=0)(key, (2, len(basis_MN), shape[1]), dtype)
    c_ND = basis_MN.T @ (real_MD + 1j * imaginary_MD)
    return 2 * jnp.concatenate([c_ND.real, -c_ND.imag]).astype(dtype)


Mixer = S5
