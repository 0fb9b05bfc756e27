"""What the mixers on `seqjax.ops.matrix_state` share: heads, a short convolution, norms and gates."""

from typing import Annotated

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax.mixers._base import check_heads
from seqjax.mixers._layers import Dense, read_and_weigh
from seqjax.mixers._linear import LinearMixer
from seqjax.ops import conv, dense, matrix_state
from seqjax.types import Count, Positive, Range

Window = Annotated[int, Range(least=0, most=256)]


class MatrixMixer(LinearMixer):
    """A mixer whose heads each have a matrix (K, V) as state, K = `key_width` and V = `value_width`.

    `norm_eps` is added to the mean square of what a norm divides: it bounds what becomes of outputs that nearly cancel.
    """

    heads: Count = 4
    norm_eps: Positive = 1e-5

    def __post_init__(self):
        super().__post_init__()
        check_heads(self.width, self.heads)

    @property
    def key_width(self) -> int:
        """K, of one head."""
        return self.width // self.heads

    @property
    def value_width(self) -> int:
        """V, of one head."""
        return self.width // self.heads

    @nn.nowrap
    def zeros(self, batch: int):
        """The state of all heads before the first token."""
        return jnp.zeros((batch, self.heads, self.key_width, self.value_width), jnp.float32)

    @nn.nowrap
    def init_state(self, batch: int):
        return self.zeros(batch)

    @nn.nowrap
    def dense(self, features: int):
        """A projection without bias."""
        return Dense(features, use_bias=False, dtype=self.dtype)

    def gate(self, x_BLD, kernel_DM):
        """The product of x and a kernel, float32: a decay of 0.999 rounds to 1 in bfloat16."""
        return dense.einsum("BLD,DM->BLM", x_BLD, kernel_DM, self.dtype, out=jnp.float32)

    @nn.nowrap
    def split(self, x_BLM):
        """The features of each head: (B, L, H, M / H)."""
        return x_BLM.reshape(*x_BLM.shape[:2], self.heads, -1)

    def recur(self, tokens_of, v_BLHV, S_BHKV, mask_BL, reset_BL, lowest=None):
        """y and the state after it, float32. `tokens_of` makes `matrix_state.Tokens` of values of any width."""
        read = lambda v_BLHX, S_BHKX: matrix_state.run(tokens_of(v_BLHX), S_BHKX, mask_BL, reset_BL, lowest=lowest)
        return read_and_weigh(self, read, v_BLHV, S_BHKV)

    def norm(self, y_BLX):
        """y over its root mean square, float32."""
        y_BLX = y_BLX.astype(jnp.float32)
        return y_BLX * jax.lax.rsqrt(jnp.mean(y_BLX**2, axis=-1, keepdims=True) + self.norm_eps)

    def close(self, y_BLHV, gate_BLM, scale_V):
        """The normed heads, times silu(gate), side by side: (B, L, H V). Without a gate: None."""
        y_BLHV = self.norm(y_BLHV)
        y_BLHV = y_BLHV if scale_V is None else y_BLHV * scale_V[None, None, None]
        y_BLM = y_BLHV.reshape(*y_BLHV.shape[:2], -1)
        return y_BLM if gate_BLM is None else y_BLM * jax.nn.silu(gate_BLM.astype(jnp.float32))


class Convolved(MatrixMixer):
    """A matrix mixer with a short convolution of `conv_width` tokens before its heads; 0: none."""

    conv_width: Window = 4

    vectors = ("filter",)

    def __post_init__(self):
        super().__post_init__()
        if self.conv_width == 1:
            raise ValueError(
                "mixer.conv_width=1 would convolve each token with itself: choose 0 for no convolution, or at least 2."
            )

    @property
    def convolved(self) -> int:
        """How many features are convolved."""
        raise NotImplementedError

    def setup_filter(self):
        """Makes the filter, whose columns each belong to one feature."""
        if self.conv_width:
            most = self.conv_width**-0.5
            uniform = lambda key, shape: jax.random.uniform(key, shape, minval=-most, maxval=most)
            self.filter = self.param("filter", uniform, (self.conv_width, self.convolved))

    @nn.nowrap
    def init_state(self, batch: int):
        if not self.conv_width:
            return self.zeros(batch)
        return jnp.zeros((batch, self.conv_width - 1, self.convolved), jnp.float32), self.zeros(batch)

    def convolve(self, x_BLM, state, mask_BL, reset_BL, bias_M=None):
        """silu(conv(x) + bias), the cache after it, and the state of the heads. The cache is None without a filter."""
        cache_BRM, S_BHKV = state if self.conv_width else (None, state)
        if self.conv_width:
            x_BLM, cache_BRM = conv.depthwise(x_BLM, self.filter, cache_BRM, mask_BL, reset_BL)
        x_BLM = x_BLM if bias_M is None else x_BLM + bias_M[None, None]
        return jax.nn.silu(x_BLM).astype(self.dtype), cache_BRM, S_BHKV

    @nn.nowrap
    def pack(self, cache_BRM, S_BHKV):
        """The state, of its two parts."""
        return (cache_BRM, S_BHKV) if self.conv_width else S_BHKV


def unit(x_BLHK):
    """x over its length, float32; a zero stays zero."""
    x_BLHK = x_BLHK.astype(jnp.float32)
    return x_BLHK * jax.lax.rsqrt(jnp.sum(x_BLHK**2, axis=-1, keepdims=True) + 1e-6)
