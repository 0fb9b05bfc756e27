"""Several mixers on top of each other."""

from flax import linen as nn

from seqjax import masks
from seqjax.mixers._base import Mixer, Mixers, cycle
from seqjax.mixers._wrapper import Several
from seqjax.mixers.lstm import LSTM
from seqjax.types import Fraction, Layers


class Stacked(Several):
    """A deep recurrent network: mixers in layers, with dropout between the layers, without norms or MLPs.

        x_{i+1} = mixer_i(x_i),   or x_i + mixer_i(x_i) if `residual`,   dropout on the inputs of all but the first

    `mixer` is a factory, called once per layer, or a tuple of factories that the layers cycle through. State: a tuple
    of one state per layer.

    `locked_dropout`: the masks of a row are the same for all its tokens (Merity et al. 2017, arXiv:1708.02182).

    Dropout between layers: Zaremba et al. 2014, arXiv:1409.2329; residual: Wu et al. 2016, arXiv:1609.08144.
    """

    mixer: Mixers = LSTM
    layers: Layers = 2
    dropout: Fraction = 0.0
    locked_dropout: bool = False
    residual: bool = False

    @nn.nowrap
    def parts(self, parent=None) -> list[Mixer]:
        given = dict(width=self.width, dtype=self.dtype, parent=parent)
        mixers = cycle(self.mixer, self.layers, "mixer.mixer")
        return [mixer(**given, name=f"layers_{i}") for i, mixer in enumerate(mixers)]

    def setup(self):
        self.inner = self.parts(parent=self)
        self.drop = nn.Dropout(self.dropout, broadcast_dims=(1,) if self.locked_dropout else ())

    def __call__(self, x_BLD, state=None, *, mask_BL=None, reset_BL=None, deterministic=True, **side):
        self.check(x_BLD, state, mask_BL, reset_BL)
        flags = dict(mask_BL=mask_BL, reset_BL=reset_BL, deterministic=deterministic)
        x_BLD, after = masks.fill(x_BLD, mask_BL), []
        for i, mixer in enumerate(self.inner):
            dropped_BLD = self.drop(x_BLD, deterministic=deterministic) if i else x_BLD
            y_BLD, new = mixer(dropped_BLD, None if state is None else state[i], **flags, **mixer.pick(side))
            x_BLD = x_BLD + y_BLD if self.residual else y_BLD
            after.append(new)
        return x_BLD, None if state is None else tuple(after)


Mixer = Stacked
