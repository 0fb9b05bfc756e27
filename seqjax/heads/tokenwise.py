"""One vector of logits per token."""

from flax import linen as nn

from seqjax.heads._base import Head
from seqjax.ops import losses


class Tokenwise(Head, kw_only=True):
    """Logits for each token: W x + b. For language models, taggers and all that predict something at every token.

    Logits of many tokens and a large vocabulary are `seqjax.ops.losses.Logits`, which the loss makes in chunks.
    """

    tieable = True

    def setup(self):
        self.kernel = self.param("kernel", nn.initializers.lecun_normal(), (self.width, self.outputs))
        self.bias = self.param("bias", nn.initializers.zeros, (self.outputs,))

    def __call__(self, x_BLD, mask_BL=None):
        return losses.logits(x_BLD, self.kernel, self.bias, mask_BL, "BLD,DV->BLV", self.dtype)


Head = Tokenwise
