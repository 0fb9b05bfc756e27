"""The contract of a head."""

from typing import Annotated

from seqjax.module import Module
from seqjax.spec import Spec
from seqjax.types import Count, Dtype, Injected


class Head(Module, kw_only=True):
    """Map of the vectors of a sequence to a prediction. The task gives `outputs`, the size of the prediction.

    A masked token has no effect, if its vector is finite, as after a norm. The prediction of a masked token is zero.
    Products run in `dtype`, predictions are float32.
    """

    inputs: Annotated[Spec, Injected]
    outputs: Annotated[Count, Injected]
    width: Annotated[Count, Injected]
    dtype: Annotated[Dtype, Injected] = "float32"

    stepwise = True  # whether there is one prediction per token, of its vector only; False: one per sequence
    joint = False  # whether the predictions of a sequence belong together: the model then reads whole sequences
    tieable = False  # whether `Embed.attend` may take its place
    density = False  # whether it reads log p of each token (B, L), which the model gives, in place of vectors
    pools = False  # whether it is `logits(pooled(x_BLD, mask_BL))`, for models that compare pooled vectors
    outermost = False  # whether its parameters are beside those of the embedding, not in "head"

    def __call__(self, x_BLD, mask_BL=None):
        """x_BLD -> the prediction, in float32; mask_BL is bool, True = real, None: all are real."""
        raise NotImplementedError
