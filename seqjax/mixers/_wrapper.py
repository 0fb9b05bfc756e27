"""The base classes of mixers that are made of other mixers."""

from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax import masks
from seqjax.mixers._base import Mixer, least_capacity, sides
from seqjax.mixers._memory import check_alone
from seqjax.mixers.lstm import LSTM
from seqjax.ops import conv
from seqjax.types import Part


class Wrapper(Mixer):
    """A mixer made of others: whether it is causal, can be cut and so on follows from its parts."""

    family = "wrapper"

    def __post_init__(self):
        super().__post_init__()
        check_alone(self.parts(), type(self).__name__)  # this builds the parts, so bad options fail now

    @nn.nowrap
    def parts(self) -> list[Mixer]:
        """The mixers inside, unbound."""
        raise NotImplementedError

    @property
    def causal(self):
        return all(mixer.causal for mixer in self.parts())

    @property
    def cuttable(self):
        return all(mixer.cuttable for mixer in self.parts())

    @property
    def prefix(self):
        return max(mixer.prefix for mixer in self.parts())

    @property
    def capacity(self):
        return least_capacity(self.parts())

    @property
    def side(self):
        return sides(self.parts())


class Several(Wrapper):
    """A wrapper around several mixers. State: a tuple of one state per mixer."""

    @nn.nowrap
    def init_state(self, batch: int):
        return tuple(mixer.init_state(batch) for mixer in self.parts())


class Single(Wrapper):
    """A wrapper around one mixer. `mixer` is a factory, called with the width."""

    mixer: Annotated[Callable, Part("seqjax.mixers", "Mixer")] = LSTM

    @nn.nowrap
    def made(self, **kwargs) -> Mixer:
        """The mixer inside; bound if called in `setup` without a parent."""
        return self.mixer(width=self.width, dtype=self.dtype, **kwargs)

    @nn.nowrap
    def parts(self) -> list[Mixer]:
        return [self.made(parent=None)]


class BothWays(Single):
    """A mixer that reads forwards and another one that reads backwards, so that each token sees its whole document."""

    causal = False

    def setup(self):
        self.forward, self.backward = self.made(), self.made()

    def both(self, run, x_BLD, mask_BL, reset_BL, side: dict):
        """`run(mixer, x_BLD, mask_BL, reset_BL, side)` in each direction: -> two results, each in the order of x."""
        flip = lambda tree: jax.tree.map(lambda a: jnp.flip(a, axis=1), tree)
        ends_BL = masks.ends(x_BLD.shape[:2], mask_BL, reset_BL)
        return run(self.forward, x_BLD, mask_BL, reset_BL, side), flip(
            run(self.backward, *flip((x_BLD, mask_BL, ends_BL, side)))
        )


class Filtered(Single):
    """A causal depthwise convolution of `taps` tokens before a mixer; subclasses say how, by `filtered`.

    State: the last taps - 1 inputs (B, W - 1, D), float32, and the state of the mixer.
    """

    @property
    def taps(self) -> int:
        """W, the number of tokens that the convolution reads."""
        raise NotImplementedError

    def filters(self):
        """The filters (W, D), the newest token last."""
        raise NotImplementedError

    def activate(self, u_BLD):
        """What the mixer reads, of the result of the convolution."""
        return u_BLD

    @nn.nowrap
    def init_state(self, batch: int):
        return self._cache(batch), self.made(parent=None).init_state(batch)

    @nn.nowrap
    def _cache(self, batch: int):
        return jnp.zeros((batch, self.taps - 1, self.width), jnp.float32)

    def __call__(self, x_BLD, state=None, *, mask_BL=None, reset_BL=None, deterministic=True, **side):
        self.check(x_BLD, state, mask_BL, reset_BL)
        cache_BRD, before = (self._cache(len(x_BLD)), None) if state is None else state
        flags = dict(mask_BL=mask_BL, reset_BL=reset_BL)
        u_BLD, cache_BRD = conv.depthwise(x_BLD.astype(self.dtype), self.filters(), cache_BRD, **flags)
        u_BLD = self.activate(u_BLD).astype(self.dtype)
        y_BLD, after = self.inner(u_BLD, before, **flags, deterministic=deterministic, **side)
        return y_BLD.astype(x_BLD.dtype), None if state is None else (cache_BRD, after)
