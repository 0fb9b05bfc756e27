"""A learner without gradients: it counts, and its parameters are the logarithm of a quotient."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax.models import Model
from seqjax.training import learners
from seqjax.types import Positive


class Bigram(Model):
    """log p(token | the token before), a table."""

    @nn.compact
    def __call__(self, tokens_BL, state=None, *, mask_BL=None, reset_BL=None, deterministic=True):
        table_VV = self.param("table", nn.initializers.zeros, (self.inputs.vocabulary,) * 2)
        return table_VV[tokens_BL], state


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counting(learners.Learner):
    """table[a, b] = log((n(a b) + smoothing) / sum over b), with the counts of all batches so far."""

    smoothing: Positive = 1.0

    def init(self, params):
        return {"counts": jax.tree.map(jnp.zeros_like, params)}

    def collect(self, net, params, batch, weights, carry, key):
        terms, metrics, carry = self.task.objective(net.at(params, key), batch, carry)
        V = self.task.spec.vocabulary
        tokens_BL, weight_BL = batch["tokens"], batch["mask"][:, 1:] * batch["weight"][:, None]
        before_BLV, after_BLV = (nn.one_hot(a, V) for a in (tokens_BL[:, :-1], tokens_BL[:, 1:]))
        counts_VV = jnp.einsum("BLV,BLW,BL->VW", before_BLV, after_BLV, weight_BL)
        return {"table": counts_VV}, self.task.checked(terms, metrics), carry

    def update(self, state, average, params, step):
        counts = jax.tree.map(jnp.add, state["counts"], average)
        normed = lambda n_VV: n_VV / n_VV.sum(axis=1, keepdims=True)
        return jax.tree.map(lambda n_VV: jnp.log(normed(n_VV + self.smoothing)), counts), {"counts": counts}


Learner = Counting
