"""Long convolutions, multiplied by gates."""

import math
from typing import Annotated

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from seqjax import masks
from seqjax.mixers._base import Mixer as _Mixer
from seqjax.mixers._layers import Dense
from seqjax.ops import conv
from seqjax.types import Count, Range


class Filters(nn.Module):
    """Filters that a network makes of the distance t: -> (taps, filters), float32, the filter of t = 0 last.

        h(t) = W sin(s * (V_2 sin(s * (V_1 sin(s * (V_0 z(t))))))) * exp(-|d| t / F),   F = `length`
        z(t) = t / F, and cos and sin of 2 pi f t / F for `bands` frequencies f between 0 and bands - 1

    V_0, V_1 and V_2 have biases. s is learned and starts at 1. d is fixed, from log(0.01) / 1.5 for the first filter to
    log(0.01) / 0.3 for the last: a filter falls to 0.01 within 0.3 to 1.5 times F.
    """

    filters: int
    length: int
    width: int
    bands: int

    @nn.compact
    def __call__(self, taps: int):
        t_T1 = np.arange(taps)[::-1, None] / self.length
        angle_TF = 2 * np.pi * t_T1 * np.linspace(1e-4, self.bands - 1, self.bands)[None]
        h_TF = jnp.asarray(np.concatenate([t_T1, np.cos(angle_TF), -np.sin(angle_TF)], axis=1), jnp.float32)
        speed_F = self.param("speed", nn.initializers.ones, (self.width,))
        for i in range(3):
            h_TF = jnp.sin(speed_F[None] * Dense(self.width, dtype="float32", name=f"layers_{i}")(h_TF))
        h_TF = Dense(self.filters, use_bias=False, dtype="float32", name="out")(h_TF)
        d_F = np.linspace(math.log(0.01) / 1.5, math.log(0.01) / 0.3, self.filters)
        return h_TF * jnp.asarray(np.exp(d_F[None] * t_T1), jnp.float32)


class Hyena(_Mixer):
    """Hyena: convolutions with long filters that a small network makes of the distance, and gates between them.

        x_0, ..., x_{N-1}, v = conv_3(W x + b)            (a causal convolution of 3 tokens, one filter per feature)
        z = v;   z = h_i * (x_i z) + b_i (x_i z)   for i = N - 1, ..., 1   (* is a convolution);   y = W_o (x_0 z) + c

    N = `order`. h_i reaches `filter_length` tokens back and no further; its form does not depend on the length of the
    data. `filter_width`, `bands`: see `Filters`. Long sequences are convolved by fast Fourier transforms
    (`seqjax.ops.conv.depthwise`); with resets they take several times as long.

    State: the last inputs of each convolution, float32: (B, 2, (N + 1) D), and N - 1 of (B, filter_length - 1, D). So a
    step takes as much time as `filter_length` tokens of a cache, and any number of tokens fit.

    Poli et al. 2023, "Hyena hierarchy", arXiv:2302.10866.
    """

    order: Annotated[int, Range(least=2, most=16)] = 2
    filter_length: Count = 1024
    filter_width: Count = 64
    bands: Count = 16

    family = "convolution"
    vectors = ("short",)

    def setup(self):
        D, N = self.width, self.order
        self.inputs = Dense((N + 1) * D, dtype=self.dtype)
        self.short = self.param("short", nn.initializers.lecun_normal(), (3, (N + 1) * D))
        self.bias = self.param("bias", nn.initializers.zeros, ((N + 1) * D,))
        self.filters = Filters((N - 1) * D, self.filter_length, self.filter_width, self.bands)
        self.skip = self.param("skip", nn.initializers.normal(1.0), ((N - 1) * D,))
        self.out = Dense(D, dtype=self.dtype)

    @nn.nowrap
    def init_state(self, batch: int):
        return self._caches(batch, self.filter_length)

    @nn.nowrap
    def _caches(self, batch: int, taps: int):
        cache = lambda taps, width: jnp.zeros((batch, taps - 1, width), jnp.float32)
        return cache(3, (self.order + 1) * self.width), tuple(cache(taps, self.width) for _ in range(self.order - 1))

    def __call__(self, x_BLD, state=None, *, mask_BL=None, reset_BL=None, deterministic=True):
        self.check(x_BLD, state, mask_BL, reset_BL)
        B, L, _ = x_BLD.shape
        taps = min(self.filter_length, L) if state is None else self.filter_length  # further ones would read nothing
        short, longs = self._caches(B, taps) if state is None else state
        flags = dict(mask_BL=mask_BL, reset_BL=reset_BL)
        u_BLM, short = conv.depthwise(self.inputs(masks.fill(x_BLD, mask_BL)), self.short, short, **flags)
        *gates, z_BLD = jnp.split((u_BLM + self.bias[None, None]).astype(self.dtype), self.order + 1, axis=-1)
        filters = jnp.split(self.filters(taps), self.order - 1, axis=-1)
        skips, after = jnp.split(self.skip, self.order - 1), []
        for h_WD, skip_D, gate_BLD, cache_BRD in zip(filters, skips, reversed(gates[1:]), longs, strict=True):
            z_BLD = z_BLD * gate_BLD
            y_BLD, cache_BRD = conv.depthwise(z_BLD, h_WD, cache_BRD, **flags)
            z_BLD = (y_BLD + skip_D[None, None] * z_BLD).astype(self.dtype)
            after.append(cache_BRD)
        y_BLD = masks.fill(self.out(gates[0] * z_BLD), mask_BL)
        return y_BLD.astype(x_BLD.dtype), None if state is None else (short, tuple(after))


Mixer = Hyena
