"""Position encodings: rotary, sinusoidal, and biases by distance."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

SCALINGS = ("none", "linear", "ntk", "yarn")


def frequencies(K: int, base: float = 10_000.0, scaling: str = "none", factor: float = 1.0, trained: int = 1):
    """The rotation of each pair of features per position: base^(-2i / K), i < K / 2, for heads of width K.

    `scaling` slows the rotation for longer texts. "linear": all pairs slow by `factor` (Chen et al. 2023,
    arXiv:2306.15595). "ntk": a larger base, which slows the slowest pair by `factor` and the fastest not at all.
    "yarn": pairs that rotate less than once in `trained` positions slow by `factor`, pairs that rotate more than 32
    times do not slow, and pairs in between slow in proportion (Peng et al. 2023, arXiv:2309.00071).

    Raises:
      ValueError: K is odd.
    """
    if K % 2:
        raise ValueError(
            f"rotary positions rotate pairs of features, got an odd head width of {K}: choose another number of heads "
            "or another width."
        )
    if scaling == "ntk" and K > 2:
        base = base * factor ** (K / (K - 2))
    turn_K = base ** (-np.arange(0, K, 2) / K)
    if scaling == "linear":
        turn_K = turn_K / factor
    if scaling == "yarn":
        share_K = np.clip((trained * turn_K / (2 * np.pi) - 1) / (32 - 1), 0, 1)
        turn_K = turn_K * (share_K + (1 - share_K) / factor)
    return jnp.asarray(turn_K, jnp.float32)


def rotary(x_BLHK, position_BL, frequency_K):
    """Rotates each pair (x_i, x_{i + K/2}) by position * frequency_i: scores then depend on differences of positions.

    Angles are float32. Su et al. 2021, "RoFormer", arXiv:2104.09864.
    """
    angle_BL1K = (position_BL[:, :, None].astype(jnp.float32) * frequency_K[None, None, :])[:, :, None, :]
    sin, cos = jnp.sin(angle_BL1K), jnp.cos(angle_BL1K)
    a_BLHK, b_BLHK = jnp.split(x_BLHK.astype(jnp.float32), 2, axis=-1)
    y_BLHK = jnp.concatenate([a_BLHK * cos - b_BLHK * sin, b_BLHK * cos + a_BLHK * sin], axis=-1)
    return y_BLHK.astype(x_BLHK.dtype)


def sinusoidal(position_BL, D: int):
    """Position vectors (B, L, D), float32: sin and cos of position * 10000^(-2i / D), side by side.

    Vaswani et al. 2017, arXiv:1706.03762.
    """
    frequency_D = 10_000.0 ** (-jnp.arange(0, D, 2, dtype=jnp.float32) / D)
    angle_BLD = position_BL[:, :, None].astype(jnp.float32) * frequency_D[None, None, :]
    return jnp.concatenate([jnp.sin(angle_BLD), jnp.cos(angle_BLD)], axis=-1)[:, :, :D]


def alibi(H: int):
    """The slope of each head, by which a score falls per position: 2^(-8 h / H), h = 1 ... H, if H is a power of two.

    Otherwise: the slopes for the next smaller power of two, then every second slope for the next larger one. Press et
    al. 2021, "Train short, test long", arXiv:2108.12409.
    """
    power = 2 ** math.floor(math.log2(H))
    slopes = lambda n: 2.0 ** (-8.0 * np.arange(1, n + 1) / n)
    return jnp.asarray(np.concatenate([slopes(power), slopes(2 * power)[::2][: H - power]]), jnp.float32)


def relative_bucket(distance, buckets: int, farthest: int):
    """The bucket, 0 ... buckets - 1, of the distance back to a key.

    The causal half of Raffel et al. 2019, "T5", arXiv:1910.10683: one distance per bucket below buckets / 2, then
    buckets of growing width. Distances beyond `farthest` share the last bucket; later keys count as distance 0.
    """
    exact = buckets // 2
    distance = jnp.maximum(distance, 0)
    ratio = jnp.log(jnp.maximum(distance, exact).astype(jnp.float32) / exact) / math.log(farthest / exact)
    wide = exact + (ratio * (buckets - exact)).astype(jnp.int32)
    return jnp.where(distance < exact, distance, jnp.minimum(wide, buckets - 1))


class Relative(NamedTuple):
    """A bias of the scores by distance, d = position of the query - position of the key.

        b_h(d) = -slope_h |d| + table_h(d)

    The table holds d = 0 ... N - 1 if attention is causal, else -(N - 1) / 2 ... (N - 1) / 2. Larger distances use the
    last value on their side.
    """

    slope_H: jax.Array | None = None
    table_HN: jax.Array | None = None

    def place(self, back, causal: bool):
        """The index of a distance in the table."""
        N = self.table_HN.shape[-1]
        return jnp.clip(back if causal else back + N // 2, 0, N - 1)

    def bias(self, back_BLS, causal: bool):
        """The bias (B, H, L, S), float32, for distances (B, L, S)."""
        bias_BHLS = jnp.float32(0)
        if self.slope_H is not None:
            bias_BHLS -= self.slope_H[None, :, None, None] * jnp.abs(back_BLS)[:, None].astype(jnp.float32)
        if self.table_HN is not None:
            bias_BHLS += jnp.swapaxes(self.table_HN.astype(jnp.float32)[:, self.place(back_BLS, causal)], 0, 1)
        return bias_BHLS
