"""What the evaluators of running text share: its windows in reading order, with as much context as the model takes."""

import dataclasses
import functools

import jax
import numpy as np

from seqjax.data import Sliding
from seqjax.evaluators import _base
from seqjax.metrics import Way
from seqjax.training.net import Net
from seqjax.types import Count

REPORTED: dict[str, Way] = dict.fromkeys(("loss", "perplexity", "bits_per_character", "bits_per_byte"), "less")


@dataclasses.dataclass(frozen=True)
class RunningText(_base.Evaluator):
    """Reads a split in its order, as one text.

    A model whose state takes any number of tokens, such as a recurrence, carries it from the first token to the last.
    Any other, such as attention, reads windows of `data.length` predictions, of which only the last `stride` count
    (None: half of them): each token is predicted from at least the others. A new document starts anew.

    Raises:
      ValueError: the task is another one than to predict the next token of running text, or `stride` is too long.
    """

    stride: Count | None = None

    def __post_init__(self):
        super().__post_init__()
        name = self.name
        if not self.task.causal or self.task.prompt_length or self.source.spec.source_vocabulary is not None:
            raise ValueError(
                f"{name} scores all next tokens of a text, which this task does not predict: remove the evaluator, or "
                "choose task.name='next_token' without a prompt."
            )
        metric = self.task.monitor.removeprefix(f"{name}_")
        if metric != self.task.monitor and metric not in self.task.metrics:
            raise ValueError(f"task.monitor={self.task.monitor!r}: the task reports no {metric!r} for these data.")
        if self.stride is not None and self.stride > self.source.spec.length - 1:
            raise ValueError(
                f"stride={self.stride} is longer than data.length={self.source.spec.length - 1}: lower it, or leave it "
                "out."
            )

    @property
    def name(self) -> str:
        """As in a config."""
        return type(self).__module__.rpartition(".")[2]

    @functools.cached_property
    def carries(self) -> bool:
        """Whether the model has a state that holds any number of tokens."""
        try:
            jax.eval_shape(lambda: self.model.init_state(1))
        except ValueError:
            return False
        return self.model.capacity is None

    def windows(self, split: str, rows: int) -> Sliding:
        """The windows of a split; a carried state takes one row."""
        length = self.source.spec.length - 1
        stride = self.stride or (length if self.carries else -(-length // 2))
        loader = dataclasses.replace(self.loader, batch_size=1 if self.carries else rows)
        return Sliding(self.source, split, loader, context=stride if self.carries else length, stride=stride)

    def read(self, params, batch, carry, **asked):
        """The prediction of a batch, the state after it, what modules sowed. The next batch reads the last token."""
        reads = self.task.reads(batch)
        reads = reads._replace(mask_BL=batch["mask"][:, 1:])
        return Net(self.model, params)(reads, carry, **asked)


class InOrder(_base.Pass):
    """One window after the other; subclasses define `start` and `score`."""

    def __init__(self, of: RunningText, split: str, layout, rows: int = 1):
        self.of, self.layout, self.batches = of, layout, of.windows(split, rows)
        self.count = self.batches.per_epoch
        self._score = jax.jit(self.score, out_shardings=layout.everywhere)

    def first(self):
        """The state before the first token, or None. It lies where `score` puts the later ones: one program for all."""
        state = self.of.model.init_state(1) if self.of.carries else None
        return jax.device_put(jax.tree.map(np.asarray, state), self.layout.everywhere)

    def start(self, params):
        """What `score` carries from window to window, before the first one."""
        return None

    def score(self, params, batch, carry, known):
        """The sums of a batch, the state of the model after it, and what is carried beside it."""
        raise NotImplementedError

    def __call__(self, params, step, *, on_batch, give_up, write):
        totals, carry, known = {}, self.first(), self.start(params)
        for i, batch in enumerate(self.batches.iterate(0, self.count)):
            metrics, carry, known = self._score(params, batch, carry, known)
            found = {name: sums for name, sums in jax.device_get(metrics).items() if name in REPORTED}
            for name, sums in jax.tree.map(np.float64, found).items():
                totals[name] = totals[name] + sums if name in totals else sums
            on_batch(i + 1)
            if give_up():
                return None
        return {f"{self.of.name}_{name}": sums.mean() for name, sums in totals.items()}
