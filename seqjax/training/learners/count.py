"""Learn by counting."""

import dataclasses

import jax
import jax.numpy as jnp

from seqjax.training.learners._counts import Counts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Count(Counts):
    """Counting, for data that leave no state hidden: theta <- argmax log p(x, z) + log prior, over all data so far.

    One epoch counts all data once, with any batches; further epochs count them again, as often as each other, so only
    the prior weighs less. The section `optim` has no meaning, but for `ema_decay`.

    Raises:
      ValueError: the model has hidden states that the task does not know.
    """

    def __post_init__(self):
        super().__post_init__()
        if not self.model.complete:
            raise ValueError(
                "count needs data that say every hidden state, as tags of all tokens say those of a tagger: choose "
                "learner.name='em'."
            )

    def init(self, params):
        return {"sums": self.nothing(params)}

    def update(self, state, average, params, step):
        sums = jax.tree.map(jnp.add, state["sums"], average)
        found = self.model.maximise(sums, params)
        return found, {"sums": self.model.recentre(sums, params, found)}


Learner = Count
