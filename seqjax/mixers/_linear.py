"""The template of mixers whose recurrence is linear in the state, or a convolution."""

from seqjax import masks
from seqjax.mixers._base import Mixer


class LinearMixer(Mixer):
    """A mixer without dropout that is given by `mix` alone; checks, fills, the first state and dtypes are done here."""

    family = "linear recurrence"

    def mix(self, x_BLD, state, mask_BL, reset_BL):
        """Mixes a sequence from a state that exists: -> y_BLD and the state after it, in dtypes of its choice.

        x_BLD is zero where it is masked; y_BLD may be anything there.
        """
        raise NotImplementedError

    def __call__(self, x_BLD, state=None, *, mask_BL=None, reset_BL=None, deterministic=True):
        self.check(x_BLD, state, mask_BL, reset_BL)
        start = self.init_state(x_BLD.shape[0]) if state is None else state
        y_BLD, end = self.mix(masks.fill(x_BLD, mask_BL), start, mask_BL, reset_BL)
        return masks.fill(y_BLD, mask_BL).astype(x_BLD.dtype), None if state is None else end
