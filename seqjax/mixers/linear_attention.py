"""Causal multi-head linear attention."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax import masks
from seqjax.mixers._base import Mixer as _Mixer
from seqjax.mixers._base import check_heads
from seqjax.mixers._layers import Dense, read_and_weigh
from seqjax.ops import dense, linear_attention
from seqjax.types import Count


class LinearAttention(_Mixer):
    """Linear attention: its weights are products of features, so its state is a sum of fixed size instead of a cache.

        q, k, v = W x          (H heads each; q and k of width E = `feature_width`, v of width K = D / H)
        S_t = S_{t-1} + phi(k_t) v_t^T,   z_t = z_{t-1} + phi(k_t)
        y_t = W_o phi(q_t)^T S_t / phi(q_t)^T z_t

    feature_map:
      "elu": phi(x) = elu(x) + 1; F = E features. Katharopoulos et al. 2020, arXiv:2006.16236.
      "taylor": phi(q) . phi(k) = 1 + s + s^2 / 2, s = q . k / sqrt(E): exp(s) to second order, with
        F = 1 + E + E (E + 1) / 2. Arora et al. 2024, "Based", arXiv:2402.18668, without the convolution and the
        sliding-window attention of that paper.
      "learned": phi(x) = [softmax(M x), softmax(-M x)]; each head has one M for q and one for k, which start as the
        identity; F = 2 E. Zhang et al. 2024, "Hedgehog", arXiv:2402.04347, as in "LoLCATs", arXiv:2410.10254. Both
        train M to match the weights of a softmax attention; that training is not part of this mixer.

    feature_width: E; None: 16 for "taylor", as in its paper, and K for the others.

    It has no positions: the order of earlier tokens does not matter. State: S (B, H, F, K) and z (B, H, F), float32.
    `apply(..., mutable=["intermediates"])` returns the weights (B, H, L, L) of the tokens of this call under
    "weights". If a row sums to less than one, the rest is the weight of tokens of earlier calls.

    Raises:
      ValueError: heads do not divide the width.
    """

    heads: Count = 4
    feature_map: Literal["elu", "taylor", "learned"] = "elu"
    feature_width: Count | None = None

    family = "attention"
    cuttable = True

    def __post_init__(self):
        super().__post_init__()
        check_heads(self.width, self.heads)

    @property
    def _projected(self):
        """E, the width of q and k."""
        return self.feature_width or (16 if self.feature_map == "taylor" else self.width // self.heads)

    def setup(self):
        H, E = self.heads, self._projected
        product = lambda n: Dense(n, use_bias=False, dtype=self.dtype)
        self.qkv = product(2 * H * E + self.width)
        self.out = product(self.width)
        if self.feature_map == "learned":
            self.maps = self.param("maps", lambda key, shape: jnp.broadcast_to(jnp.eye(E), shape), (2, H, E, E))

    @nn.nowrap
    def init_state(self, batch: int):
        H, E = self.heads, self._projected
        F = {"elu": E, "taylor": 1 + E + E * (E + 1) // 2, "learned": 2 * E}[self.feature_map]
        return jnp.zeros((batch, H, F, self.width // H), jnp.float32), jnp.zeros((batch, H, F), jnp.float32)

    def __call__(self, x_BLD, state=None, *, mask_BL=None, reset_BL=None, deterministic=True):
        self.check(x_BLD, state, mask_BL, reset_BL)
        B, L, _ = x_BLD.shape
        H, E = self.heads, self._projected
        qk_BLM, v_BLD = jnp.split(self.qkv(masks.fill(x_BLD, mask_BL)), [2 * H * E], axis=-1)
        phi_BL2HF = self._features(qk_BLM.reshape(B, L, 2, H, E))
        start = self.init_state(B) if state is None else state
        kernel = "taylor" if self.feature_map == "taylor" else "product"
        read = lambda v_BLHX, S_BHFX: linear_attention.attend(
            phi_BL2HF[:, :, 0], phi_BL2HF[:, :, 1], v_BLHX, (S_BHFX, start[1]), mask_BL, reset_BL, kernel
        )
        y_BLHK, end = read_and_weigh(self, read, v_BLD.reshape(B, L, H, -1), start[0])
        y_BLD = self.out(y_BLHK.reshape(B, L, self.width))
        return y_BLD.astype(x_BLD.dtype), None if state is None else end

    def _features(self, x_BL2HE):
        """The q and k that `attend` takes: features, or for "taylor" scaled inputs, whose features `attend` makes."""
        if self.feature_map == "taylor":
            return x_BL2HE * jnp.asarray(x_BL2HE.shape[-1] ** -0.25, x_BL2HE.dtype)
        wide_BL2HE = x_BL2HE.astype(jnp.float32)
        if self.feature_map == "elu":
            # Not elu(x) + 1, which rounds to 0 below about x = -17.
            phi_BL2HF = jnp.where(wide_BL2HE > 0, wide_BL2HE + 1, jnp.exp(jnp.minimum(wide_BL2HE, 0)))
        else:
            # Heads before tokens, as in `attend`.
            x_2HBLE = jnp.moveaxis(x_BL2HE, (2, 3), (0, 1))
            z_2HBLF = dense.einsum("GHBLE,GHEF->GHBLF", x_2HBLE, self.maps, self.dtype, out=jnp.float32)
            z_BL2HF = jnp.moveaxis(z_2HBLF, (0, 1), (2, 3))
            phi_BL2HF = jnp.concatenate([jax.nn.softmax(z_BL2HF), jax.nn.softmax(-z_BL2HF)], axis=-1)
        return phi_BL2HF.astype(self.dtype)


Mixer = LinearAttention
