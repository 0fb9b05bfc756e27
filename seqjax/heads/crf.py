"""Scores of tags, and of tags that follow each other."""

import jax.numpy as jnp
from flax import linen as nn

from seqjax import masks
from seqjax.heads._base import Head
from seqjax.mixers._layers import Dense
from seqjax.ops.crf import Potentials


class Crf(Head, kw_only=True):
    """Linear-chain conditional random field: scores of tags, and of what follows what.

        log p(y | x) = start[y_1] + sum_t (W x_t + b)[y_t] + sum_{t > 1} transition[y_{t-1}, y_t] + end[y_L] - log Z(x)

    The prediction is `seqjax.ops.crf.Potentials`, in float32; `seqjax.ops.crf` has the likelihood, the best tags, the n
    best, and the marginals. Tags that must not follow each other are no parameters: `task.constraints` of the task tag.

    Lafferty et al. 2001, ICML; on a recurrent network: Huang et al. 2015, arXiv:1508.01991.
    """

    joint = True
    vectors = ("transition",)

    def setup(self):
        self.dense = Dense(self.outputs, dtype=self.dtype)
        nn.share_scope(self, self.dense)
        score = lambda name, *shape: self.param(name, nn.initializers.zeros, shape)
        self.start, self.end = score("start", self.outputs), score("end", self.outputs)
        self.transition = score("transition", self.outputs, self.outputs)

    def __call__(self, x_BLD, mask_BL=None):
        unary_BLC = masks.fill(self.dense(x_BLD).astype(jnp.float32), mask_BL)
        return Potentials(unary_BLC, self.start, self.transition, self.end)


Head = Crf
