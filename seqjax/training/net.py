"""A model with its parameters: what a task, a learner, an evaluator and a decoder hold of it."""

import dataclasses
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from seqjax.types import ConfigError


class Out(NamedTuple):
    """What one pass returns. `sown`: collection -> what modules sowed, for the collections that were asked for."""

    prediction: Any
    carry: Any
    sown: dict


@dataclasses.dataclass(frozen=True)
class Net:
    """A model with its parameters; the only caller of `model.apply` outside the models.

    `key` is the random key of the step and micro-batch: every draw is a pure function of it. None: nothing is dropped,
    and all batches draw the same numbers. `others`: further nets by name, such as a teacher. `use` maps the parameters
    to those that the model reads.
    """

    model: Any
    params: Any = None
    key: jax.Array | None = None
    others: dict[str, "Net"] = dataclasses.field(default_factory=dict)
    use: Callable = lambda params: params

    def at(self, params, key=None) -> "Net":
        """The same net with other parameters and another key."""
        return dataclasses.replace(self, params=params, key=key)

    def __call__(self, reads, carry=None, *, embedded=None, sown: tuple[str, ...] = ()) -> Out:
        """Reads a batch, or continues from `carry`; two calls drop the same features.

        Args:
          reads: what the model reads (`tasks.Reads`).
          carry: the state of the model after the tokens before; None: it starts new and returns None.
          embedded: what takes the place of `embed(reads)`.
          sown: collections that modules may fill, such as "losses" and "intermediates".
        """
        flags = dict(reads.keywords(self.model), deterministic=self.key is None, rngs=self._rngs)
        if embedded is not None:
            self._check_embeds()
            flags["embedded"] = embedded
        if not sown:
            return Out(*self._apply(reads.x, carry, **flags), {})
        (prediction, carry), found = self._apply(reads.x, carry, **flags, mutable=list(sown))
        return Out(prediction, carry, found)

    def embed(self, reads):
        """The embeddings (x_BLD, mask_BL) that a `stack` reads; for a pass on others, give them as `embedded`."""
        self._check_embeds()
        return self._apply(reads.x, reads.mask_BL, self.key is None, rngs=self._rngs, method="embeddings")

    def expected(self, reads, carry=None, **known):
        """The expected counts of a model that has them, and log p(x, known) (B,): `learners._counts`."""
        return self._apply(reads.x, carry, method="expected", **reads.keywords(self.model), **known)

    def smooth(self, reads):
        """log p(state | whole sequence) of a model with hidden states, (B, L, K): `models._inference`."""
        return self._apply(reads.x, method="smooth", **reads.keywords(self.model))

    def step(self, token_B, carry, **flags):
        """Reads one token: -> prediction and the state after it."""
        return self._apply(token_B, carry, method="step", **flags)

    def prefill(self, source_BS, mask_BS=None):
        """The state before the first token of a model that reads a second sequence."""
        return self._apply(source_BS, mask_BS, method="prefill")

    def draw(self, name: str) -> jax.Array:
        """A random key of this name: another one for each name, step and micro-batch."""
        key = jax.random.key(0) if self.key is None else self.key
        return jax.random.fold_in(key, zlib.crc32(name.encode()))

    @property
    def _rngs(self) -> dict | None:
        return None if self.key is None else {"dropout": self.key}

    def _check_embeds(self) -> None:
        if not self.model.embeds:
            name = type(self.model).__name__
            raise ConfigError(f"{name} has no embeddings that this task could change: choose a model that has.")

    def _apply(self, *args, **flags):
        return self.model.apply({"params": self.use(self.params)}, *args, **flags)
