"""The contract of a task."""

import dataclasses
import math
from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax

from seqjax import lookup
from seqjax.heads.tokenwise import Tokenwise
from seqjax.metrics import grows
from seqjax.spec import Spec
from seqjax.types import Checked, Injected, Part, fields_of


class Reads(NamedTuple):
    """What a model reads of a batch: `model.apply(variables, reads.x, state, **reads.keywords(model))`."""

    x: jax.Array  # tokens (B, L) or features (B, L, F)
    mask_BL: jax.Array  # True = real
    reset_BL: jax.Array | None = None  # True where a document begins
    side: dict[str, jax.Array] = {}  # further inputs, by the name of the model's argument, such as "elapsed_BLF"

    def keywords(self, model) -> dict:
        """The keyword arguments of a model, with the side inputs that it reads."""
        side = {name: self.side[name] for name in model.side if name in self.side}
        return {"mask_BL": self.mask_BL, "reset_BL": self.reset_BL, **side}


@dataclasses.dataclass(frozen=True)
class Task(Checked):
    """Turns a batch into what a model reads, and its prediction into a loss.

    The loader makes a batch of examples: `tokens` (B, L) or `features` (B, L, F) padded on the right, `mask` (B, L)
    True = real, `weight` (B,) 0 for the empty rows of the last batch, and the other fields that the source gives
    (`label`, `scored`, `reset`; `source` (B, S) and its `source_mask`).

    `monitor` is the validation metric for the choice of the best checkpoint and for early stopping. Its name says which
    direction is better: a metric of your own ends in `_score` if higher is better, in `_loss` if lower is better, or
    has another word for it, such as `auc` or `error` (`seqjax.metrics.grows`).
    """

    spec: Annotated[Spec, Injected]
    monitor: str = "loss"
    head: Annotated[Callable, Part("seqjax.heads", "Head")] = Tokenwise

    prompt_length = (
        math.inf
    )  # the first tokens of a document that are not predicted; a task that predicts tokens sets it
    causal = False  # whether the model must not see later tokens
    carry_state = False  # not a field: only tasks whose batches can continue the batch before have this option

    def __post_init__(self):
        super().__post_init__()
        if grows(self.monitor) is None:
            near = lookup.nearest(self.monitor, ("accuracy", "exact_match", "loss"))
            raise ValueError(
                f"monitor={self.monitor!r} is no known metric, and its name does not say whether higher is better."
                f"{near} End the name of your own metric in _score if higher is better, in _loss if lower is better."
            )
        wanted = fields_of(type(self))["head"][1].stepwise
        head = getattr(self.head, "func", self.head)
        if head.stepwise != wanted:
            each = {True: "one prediction per token", False: "one prediction per sequence"}
            raise ValueError(
                f"head: {head.__name__} gives {each[head.stepwise]}, but {type(self).__name__} needs {each[wanted]}: "
                "choose another head."
            )

    def outputs(self) -> int:
        """The size of a prediction, for the head."""
        raise NotImplementedError

    def reads(self, batch) -> Reads:
        """What the model reads: all tokens or features, unless a task overrides it. It may use any field."""
        return Reads(batch["tokens" if self.spec.vocabulary is not None else "features"], batch["mask"])

    def length(self, L: int) -> int:
        """How many tokens the model reads of an example of length L: the length of `reads(batch).x`."""
        return L

    def loss(self, prediction, batch) -> dict:
        """Name -> Ratio; training minimises "loss"."""
        raise NotImplementedError
