"""The position encodings of attention."""

import math
from typing import Annotated, Literal

import jax.numpy as jnp
from flax import linen as nn

from seqjax.mixers._base import Mixer
from seqjax.ops import positions
from seqjax.types import Count, Positive, Range


class Positioned(Mixer):
    """A mixer whose tokens have position encodings.

    `positions`: "rotary" rotates q and k, with base `rope_theta`; for texts longer than `rope_original_length` tokens,
      `rope_scaling` scales by `rope_factor` ("linear", "ntk", "yarn": see `seqjax.ops.positions.frequencies`).
      "learned" (`max_length` vectors) and "sinusoidal" are added to x. "alibi" and "relative" (as in T5: `num_buckets`
      buckets up to `max_distance`, in each direction) add a bias to the scores. "none" adds nothing.
    """

    heads: Count = 4
    max_length: Count = 1024
    causal: bool = True
    positions: Literal["rotary", "learned", "sinusoidal", "alibi", "relative", "none"] = "rotary"
    rope_theta: Positive = 10_000.0
    rope_scaling: Literal["none", "linear", "ntk", "yarn"] = "none"
    rope_factor: Annotated[float, Range(least=1, below=math.inf)] = 1.0
    rope_original_length: Count = 1024
    num_buckets: Annotated[int, Range(least=2)] = 32
    max_distance: Count = 128

    family = "attention"
    vectors = ("relative",)

    def __post_init__(self):
        super().__post_init__()
        if self.rope_scaling != "none" and self.positions != "rotary":
            raise ValueError(
                f"mixer.rope_scaling={self.rope_scaling!r} scales rotary positions, not {self.positions!r}: set "
                "mixer.positions='rotary', or mixer.rope_scaling='none'."
            )
        if self.positions == "rotary" and self.width % self.heads == 0 and self.head_width % 2:
            raise ValueError(
                f"mixer.positions='rotary' rotates pairs of features, but the head width is {self.head_width}, an odd "
                "number: choose another model.width, mixer.heads or mixer.positions."
            )
        if self.positions == "relative" and self.max_distance <= self.num_buckets // 2:
            raise ValueError(
                f"mixer.max_distance={self.max_distance} is not above half of mixer.num_buckets={self.num_buckets}: "
                f"choose at least {self.num_buckets // 2 + 1}, or fewer buckets."
            )

    @property
    def head_width(self) -> int:
        """K, the width of one head."""
        return self.width // self.heads

    def setup(self):
        normal = nn.initializers.normal(0.02)
        if self.positions == "learned":
            self.places_SD = self.param("places", normal, (self.max_length, self.width))
        if self.positions == "relative":
            self.table_NH = self.param("relative", normal, (self.num_buckets * (1 if self.causal else 2), self.heads))

    def placed(self, x_BLD, position_BL):
        """x plus its position vectors, for "learned" and "sinusoidal"."""
        if self.positions == "learned":
            return x_BLD + self.places_SD[position_BL].astype(x_BLD.dtype)
        if self.positions == "sinusoidal":
            return x_BLD + positions.sinusoidal(position_BL, self.width).astype(x_BLD.dtype)
        return x_BLD

    def turned(self, x_BLHK, position_BL):
        """q or k, rotated if positions are "rotary"."""
        if self.positions != "rotary":
            return x_BLHK
        frequency_K = positions.frequencies(
            self.head_width, self.rope_theta, self.rope_scaling, self.rope_factor, self.rope_original_length
        )
        return positions.rotary(x_BLHK, position_BL, frequency_K)

    @property
    def sharper(self) -> float:
        """The factor of q and of k that "yarn" uses for longer texts: Peng et al. 2023, section 3.4."""
        return 0.1 * math.log(self.rope_factor) + 1 if self.rope_scaling == "yarn" else 1.0

    def relative(self):
        """The bias that depends on the distance, for "alibi" and "relative"."""
        if self.positions == "alibi":
            return positions.Relative(slope_H=positions.alibi(self.heads))
        if self.positions != "relative":
            return positions.Relative()
        bucket = lambda distance: positions.relative_bucket(distance, self.num_buckets, self.max_distance)
        back_N = jnp.arange(0 if self.causal else -self.max_distance, self.max_distance + 1)
        bucket_N = jnp.where(back_N >= 0, bucket(back_N), self.num_buckets + bucket(-back_N))  # later keys: second half
        return positions.Relative(table_HN=self.table_NH[bucket_N].T)
