"""Several mixers side by side."""

from functools import partial

from flax import linen as nn

from seqjax import masks
from seqjax.mixers._base import Mixer as _Mixer
from seqjax.mixers._base import Mixers, factories
from seqjax.mixers._layers import Dense
from seqjax.mixers._wrapper import Several
from seqjax.mixers.attention import Attention
from seqjax.mixers.rg_lru import RGLRU


class Parallel(Several):
    """Mixers side by side on one input, with a learned mix of what they give, such as attention and a recurrence.

        y = W_o mean_i(b_i * norm(mixer_i(x)))

    The norm divides by the root mean square; each b_i is a learned vector. `mixer` is a factory, or a list of them.
    State: a tuple of one state per mixer.

    Dong et al. 2024, "Hymba: a hybrid-head architecture for small language models", arXiv:2411.13676. There the mixers
    share the projection of x; here each one has its own.

    Raises:
      ValueError: there is no mixer.
    """

    mixer: Mixers = (partial(Attention, window=1024), RGLRU)

    @nn.nowrap
    def parts(self, parent=None) -> list[_Mixer]:
        given = dict(width=self.width, dtype=self.dtype, parent=parent)
        return [make(**given, name=f"mixers_{i}") for i, make in enumerate(factories(self.mixer, "mixer.mixer"))]

    def setup(self):
        self.inner = self.parts(parent=self)
        self.norms = [nn.RMSNorm(dtype=self.dtype) for _ in self.inner]
        self.out = Dense(self.width, use_bias=False, dtype=self.dtype)

    def __call__(self, x_BLD, state=None, *, mask_BL=None, reset_BL=None, deterministic=True, **side):
        self.check(x_BLD, state, mask_BL, reset_BL)
        flags = dict(mask_BL=mask_BL, reset_BL=reset_BL, deterministic=deterministic)
        before = (None,) * len(self.inner) if state is None else state
        given = zip(self.inner, before, strict=True)
        ys, after = zip(*(mixer(x_BLD, one, **flags, **mixer.pick(side)) for mixer, one in given), strict=True)
        y_BLD = sum(norm(y_BLD) for norm, y_BLD in zip(self.norms, ys, strict=True)) / len(ys)
        return masks.fill(self.out(y_BLD), mask_BL).astype(x_BLD.dtype), None if state is None else after


Mixer = Parallel
