"""A linear map of vectors."""

from typing import Annotated

from flax import linen as nn

from seqjax import masks
from seqjax.embed._base import Embed
from seqjax.mixers._layers import Dense
from seqjax.types import Injected


class Features(Embed, kw_only=True):
    """Linear map of the features of each step: W x + b."""

    field: Annotated[str, Injected] = "features"

    kind = "real"

    def setup(self):
        self.project = Dense(self.width, dtype=self.dtype)
        nn.share_scope(self, self.project)

    def __call__(self, x, mask_BL=None, deterministic=True):
        (F,) = self.inputs.fields[self.field].shape
        if x.ndim != 3 or x.shape[-1] != F:
            raise ValueError(
                f"{self.field}: got {x.dtype}{list(x.shape)}, the embedding wants [B, L, {F}]: give as many features "
                "as the data source has."
            )
        return self.project(masks.fill(x, mask_BL)), mask_BL


Embed = Features
