"""Where tokens stand, told to attention."""

import math
from typing import Annotated, Literal

import jax.numpy as jnp
from flax import linen as nn

from seqjax.mixers._base import Mixer
from seqjax.ops import positions
from seqjax.types import Count, Positive, Range


class Positioned(Mixer):
    """What attention is told about places.

    `positions`: "rotary" turns q and k, with base `base` and, for texts beyond `trained` tokens, `scaling` by `factor`
    ("linear", "ntk", "yarn": see `seqjax.ops.positions.frequencies`); "learned" (as many as `context`) and
    "sinusoidal" are added to x; "alibi" and "relative" (as in T5, `buckets` up to `farthest`, each way) add a bias to
    scores; "none".
    """

    heads: Count = 4
    context: Count = 1024
    sight: Literal["causal", "bidirectional"] = "causal"
    positions: Literal["rotary", "learned", "sinusoidal", "alibi", "relative", "none"] = "rotary"
    base: Positive = 10_000.0
    scaling: Literal["none", "linear", "ntk", "yarn"] = "none"
    factor: Annotated[float, Range(least=1, below=math.inf)] = 1.0
    trained: Count = 1024
    buckets: Annotated[int, Range(least=2)] = 32
    farthest: Count = 128

    vectors = ("relative",)

    def __post_init__(self):
        super().__post_init__()
        if self.scaling != "none" and self.positions != "rotary":
            raise ValueError(f"mixer.scaling={self.scaling!r} scales rotary positions, not {self.positions!r}.")
        if self.positions == "rotary" and self.width % self.heads == 0 and self.head_width % 2:
            raise ValueError(
                f"mixer.positions='rotary' turn pairs, and heads are {self.head_width} wide, an odd number: choose "
                "another model.width, mixer.heads or mixer.positions."
            )
        if self.positions == "relative" and self.farthest <= self.buckets // 2:
            raise ValueError(f"mixer.farthest={self.farthest} is within the exact half of {self.buckets} buckets.")

    @property
    def causal(self):
        return self.sight == "causal"

    @property
    def head_width(self) -> int:
        """K."""
        return self.width // self.heads

    def setup(self):
        normal = nn.initializers.normal(0.02)
        if self.positions == "learned":
            self.places_SD = self.param("places", normal, (self.context, self.width))
        if self.positions == "relative":
            self.table_NH = self.param("relative", normal, (self.buckets * (1 if self.causal else 2), self.heads))

    def placed(self, x_BLD, position_BL):
        """x with the positions that are added to it."""
        if self.positions == "learned":
            return x_BLD + self.places_SD[position_BL].astype(x_BLD.dtype)
        if self.positions == "sinusoidal":
            return x_BLD + positions.sinusoidal(position_BL, self.width).astype(x_BLD.dtype)
        return x_BLD

    def turned(self, x_BLHK, position_BL):
        """q or k, rotated."""
        if self.positions != "rotary":
            return x_BLHK
        frequency_K = positions.frequencies(self.head_width, self.base, self.scaling, self.factor, self.trained)
        return positions.rotary(x_BLHK, position_BL, frequency_K)

    @property
    def sharper(self) -> float:
        """What scores over more keys are multiplied by, for q and for k: Peng et al. 2023, section 3.4."""
        return 0.1 * math.log(self.factor) + 1 if self.scaling == "yarn" else 1.0

    def relative(self):
        """The bias by distance."""
        if self.positions == "alibi":
            return positions.Relative(slope_H=positions.alibi(self.heads))
        if self.positions != "relative":
            return positions.Relative()
        bucket = lambda distance: positions.relative_bucket(distance, self.buckets, self.farthest)
        back_N = jnp.arange(0 if self.causal else -self.farthest, self.farthest + 1)
        bucket_N = jnp.where(back_N >= 0, bucket(back_N), self.buckets + bucket(-back_N))  # those ahead come second
        return positions.Relative(table_HN=self.table_NH[bucket_N].T)
