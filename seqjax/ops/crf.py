"""Linear-chain conditional random fields: which sequences of tags are likely, given scores.

    p(y | x) = exp(start[y_1] + sum_t unary[t, y_t] + sum_{t > 1} transition[y_{t-1}, y_t] + end[y_L]) / Z(x)

A token that is masked does not exist: the tokens before and after it are neighbours. Each document of a row is a chain.
Logits of a softmax per token are the case without start, transition and end: then the tags are independent. All
functions compute in float32 and read `mask_BL`, True = real, and `reset_BL`, True = a document starts here.

Lafferty et al. 2001, "Conditional random fields: probabilistic models for segmenting and labeling sequence data", ICML.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import masks
from seqjax.ops import chain, losses


class Potentials(NamedTuple):
    """The scores of tags; without the last three, tags are independent. -inf forbids."""

    unary_BLC: jax.Array | losses.Logits
    start_C: jax.Array | None = None
    transition_CC: jax.Array | None = None  # from the tag of the row to that of the column
    end_C: jax.Array | None = None

    @classmethod
    def of(cls, prediction) -> "Potentials":
        """A prediction that is potentials, or the logits of a softmax per token."""
        return prediction if isinstance(prediction, cls) else cls(prediction)

    @property
    def whole(self) -> "Potentials":
        """The same with zeros for what is missing."""
        if self.transition_CC is not None:
            return self
        zeros_C = jnp.zeros(self.unary_BLC.shape[-1], jnp.float32)
        return Potentials(self.unary_BLC, zeros_C, jnp.add.outer(zeros_C, zeros_C), zeros_C)

    def within(self, start_C, transition_CC, end_C) -> "Potentials":
        """Forbids what is False: a constant beside the parameters, which get no gradient there."""
        unary_BLC, *scores = self.whole
        pairs = zip((start_C, transition_CC, end_C), scores, strict=True)
        return Potentials(unary_BLC, *(jnp.where(allowed, score, -jnp.inf) for allowed, score in pairs))


def log_likelihood(potentials: Potentials, tags_BL, *, mask_BL=None, reset_BL=None):
    """log p(tags | x): (B,), 0 for an empty row, -inf for forbidden tags.

    Raises:
      ValueError: an array or a mask has the wrong shape; as all functions here.
    """
    if potentials.transition_CC is None:
        masks.check(mask_BL, tags_BL.shape)
        loss_BL = losses.per_token(losses.cross_entropy, potentials.unary_BLC, masks.fill(tags_BL, mask_BL))
        return -jnp.sum(masks.fill(loss_BL, mask_BL), axis=1)
    flags = dict(mask_BL=mask_BL, reset_BL=reset_BL)
    weights = _weights(potentials, **flags)
    return chain.weight(tags_BL, *weights, **flags) - chain.log_likelihood(*weights, **flags)


def decode(potentials: Potentials, *, mask_BL=None, reset_BL=None):
    """The most probable tags (B, L), int32, and their log p (B,): Viterbi 1967."""
    if potentials.transition_CC is None:
        best = lambda unary_BLC: jnp.argmax(unary_BLC, axis=-1).astype(jnp.int32)
        tags_BL = masks.fill(losses.per_token(best, potentials.unary_BLC), mask_BL)
        return tags_BL, log_likelihood(potentials, tags_BL, mask_BL=mask_BL)
    flags = dict(mask_BL=mask_BL, reset_BL=reset_BL)
    weights = _weights(potentials, **flags)
    tags_BL, best_B = chain.viterbi(*weights, **flags)
    return tags_BL, best_B - chain.log_likelihood(*weights, **flags)


def n_best(n: int, potentials: Potentials, *, mask_BL=None, reset_BL=None):
    """The n most probable sequences of tags (B, n, L), int32, and their log p (B, n), the best first.

    If fewer than n are possible, the others have the log p -inf and are any tags.
    """
    flags = dict(mask_BL=mask_BL, reset_BL=reset_BL)
    weights = _weights(potentials, **flags)
    tags_BNL, best_BN = chain.n_best(n, *weights, **flags)
    return tags_BNL, best_BN - chain.log_likelihood(*weights, **flags)[:, None]


def marginals(potentials: Potentials, *, mask_BL=None, reset_BL=None):
    """log p(tag of a token | x): (B, L, C). No gradient passes. Its argmax is posterior decoding."""
    flags = dict(mask_BL=mask_BL, reset_BL=reset_BL)
    return chain.smooth(*_weights(potentials, **flags), **flags)


def _weights(potentials, mask_BL, reset_BL):
    """Start, transition and score of a chain: the last token of a document has the end in its score."""
    unary_BLC, start_C, transition_CC, end_C = potentials.whole
    shape = unary_BLC.shape[:2]
    masks.check(mask_BL, shape)
    masks.check(reset_BL, shape, "reset_BL")
    real_BL = jnp.ones(shape, bool) if mask_BL is None else mask_BL
    last_BL = jnp.flip(jnp.cumsum(jnp.flip(real_BL, axis=1), axis=1), axis=1) == 1
    if reset_BL is not None:
        last_BL |= masks.ends(shape, mask_BL, reset_BL)
    unary_BLC = unary_BLC.astype(jnp.float32)
    return start_C, transition_CC, jnp.where(last_BL[..., None], unary_BLC + end_C[None, None], unary_BLC)
