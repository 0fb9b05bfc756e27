"""The contract of a task."""

import dataclasses
import math
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax

from seqjax.heads.tokenwise import Tokenwise
from seqjax.metrics import Way
from seqjax.spec import Spec
from seqjax.types import Checked, ConfigError, Injected, Part, fields_of, mismatch


class Reads(NamedTuple):
    """What a model reads of a batch: `model.apply(variables, reads.x, state, **reads.keywords(model))`."""

    x: jax.Array | dict  # tokens (B, L), features (B, L, F), or name -> array (B, L, ...)
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
    (`label`, `scored`, `reset`; `source` (B, S) and its `mask_S`).

    Training minimises the sum over `terms` of coefficient * total / weight, with the weight of the whole batch. Each
    term is a Ratio, and a metric too.

    `metrics` declares every metric that `loss` returns, and whether "more" or "less" of it is better. It may be a
    property. `monitor` is the one, of these or of those of an evaluator, whose validation value chooses the best
    checkpoint and decides on early stopping.
    """

    spec: Annotated[Spec, Injected]
    monitor: str = "loss"
    head: Annotated[Callable, Part("seqjax.heads", "Head")] = Tokenwise

    metrics = {"loss": "less"}  # not a field; nor are those below
    terms = {"loss": 1.0}  # what training minimises: term -> coefficient
    prompt_length = (
        math.inf
    )  # the first tokens of a document that are not predicted; a task that predicts tokens sets it
    joint = False  # whether it takes a head whose predictions of a sequence belong together
    causal = False  # whether the model must not see later tokens
    carry_state = False  # not a field: only tasks whose batches can continue the batch before have this option

    def __post_init__(self):
        super().__post_init__()
        if problem := mismatch(dict[str, Way], self.metrics):
            raise ValueError(f"metrics of {type(self).__name__}: {problem}.")
        if not {"loss", *self.terms} <= self.metrics.keys():
            raise ValueError(
                f"{type(self).__name__} has the terms {', '.join(self.terms)} and the metrics "
                f"{', '.join(self.metrics)}: declare each term in `metrics`, and call the main loss 'loss'."
            )
        default, head = (getattr(made, "func", made) for made in (fields_of(type(self))["head"][1], self.head))
        if head.stepwise != (wanted := default.stepwise):
            each = {True: "one prediction per token", False: "one prediction per sequence"}
            raise ValueError(
                f"head: {head.__name__} gives {each[head.stepwise]}, but {type(self).__name__} needs {each[wanted]}: "
                "choose another head."
            )
        if head.joint and not self.joint:
            raise ValueError(
                f"head: {head.__name__} scores the tags of a sequence together, but {type(self).__name__} needs one "
                "prediction per token: choose another head."
            )

    def outputs(self) -> int:
        """The size of a prediction, for the head."""
        raise NotImplementedError

    def reads(self, batch) -> Reads:
        """What the model reads: all tokens or features, and the source, unless a task overrides it.

        It may use any field.
        """
        name = "tokens" if self.spec.vocabulary is not None else "features"
        side = {"observed_BLF": batch[f"{name}_observed"]} if self.spec.fields[name].missing else {}
        if "source" in batch:
            side |= {"source_BS": batch["source"], "source_mask_BS": batch["mask_S"]}
        return Reads(batch[name], batch["mask"], side=side)

    def sequence(self, batch) -> Reads:
        """The whole sequence, for learners that count: what the model reads, and what the task keeps for the answer."""
        return self.reads(batch)

    def known(self, batch) -> dict:
        """What the batch says about hidden variables, such as the class: keywords of a model's `begin` and `expected`.

        A prediction never sees it.
        """
        return {}

    def length(self, L: int) -> int:
        """How many tokens the model reads of an example of length L: the length of `reads(batch).x`."""
        return L

    def loss(self, prediction, batch) -> dict:
        """Name -> metric (see `seqjax.metrics`), all that `metrics` declares, from one prediction."""
        raise NotImplementedError

    def weights(self, batch) -> dict[str, jax.Array]:
        """Term -> its weight in a batch. Only needed with several terms; it may depend on nothing but the data.

        The trainer adds the weights up over micro-batches and devices before the first gradient. Each must be the
        weight of the term that `objective` returns for the same rows.
        """
        raise ConfigError(
            f"task: {type(self).__name__} has the terms {', '.join(self.terms)}: define `weights(batch)`."
        )

    def objective(self, net, batch, carry) -> tuple[dict, dict, Any]:
        """The terms, the other metrics, and the state after the batch; by default from one pass and `loss`.

        Args:
          net: reads with `net(self.reads(batch), carry)`, as often as the task wants (`seqjax.training.net.Net`).
          carry: the state of the model before the batch, or None.
        """
        prediction, carry, _ = net(self.reads(batch), carry)
        metrics = self.loss(prediction, batch)
        return {name: metrics[name] for name in self.terms if name in metrics}, metrics, carry

    def checked(self, terms: dict, metrics: dict) -> dict:
        """All metrics, terms included.

        Raises:
          ConfigError: they are not those that the task declares.
        """
        found = {**metrics, **terms}
        for name, got, wanted in (("terms", terms, self.terms), ("metrics", found, self.metrics)):
            if got.keys() != wanted.keys():
                raise ConfigError(
                    f"task: {type(self).__name__} returned the {name} {', '.join(sorted(got)) or 'none'}, but declares "
                    f"{', '.join(sorted(wanted))}: declare in `{name}` exactly what it returns."
                )
        return found
