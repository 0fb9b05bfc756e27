"""A model with its parameters: the only caller of `model.apply` outside models and converters."""

import dataclasses
from typing import Any, NamedTuple


class Out(NamedTuple):
    """What a model makes of its reads, and the state after them."""

    prediction: Any
    carry: Any = None


@dataclasses.dataclass(frozen=True, eq=False)
class Net:
    """A model with its parameters. `prefill` is the state before the first token, made from `reads.side` if it has one.

    Raises:
      ValueError: the reads have a source, but the model reads none.
    """

    model: Any
    params: Any

    def __call__(self, reads, carry=None) -> Out:
        return Out(*self._apply(reads.x, carry, **reads.keywords))

    def step(self, token_B, state):
        return self._apply(token_B, state, method="step")

    def prefill(self, reads):
        if not reads.side:
            return self.model.init_state(len(reads.x))
        if not hasattr(self.model, "prefill"):
            raise ValueError(f"{type(self.model).__name__} reads no source: leave it out, or train a seq2seq model.")
        return self._apply(*reads.side.values(), method="prefill")

    def _apply(self, *args, **options):
        return self.model.apply({"params": self.params}, *args, **options)
