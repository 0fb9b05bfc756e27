"""Evaluation over a whole split."""

import jax
import numpy as np

from seqjax.data import Batches, Streams
from seqjax.metrics import Ratio
from seqjax.training.step import make_eval_step


class Evaluator:
    """Means over every example of a split, each counted once: empty rows of the last batch weigh nothing.

    With `task.carry_state` the rows are streams, each of which starts afresh and carries its state to its end.
    Compiled once per bucket and kept for the next call.
    """

    def __init__(self, model, task, source, loader, split: str):
        self.batches = (Streams if task.carry_state else Batches)(source, split, loader)
        self.split = split
        self._start = model.init_state(loader.batch) if task.carry_state else None
        self._step = jax.jit(make_eval_step(model, task))

    @property
    def examples(self) -> int:
        """How many examples the split has."""
        return self.batches.size

    def __call__(self, params, on_batch=lambda done, total: None) -> dict[str, float]:
        """Name -> mean. Sums are float64 on the host."""
        totals: dict[str, Ratio] = {}
        count, carry = self.batches.per_epoch, self._start
        for i, batch in enumerate(self.batches.iterate(0, count)):
            metrics, carry = self._step(params, batch, carry)
            for name, ratio in jax.device_get(metrics).items():
                value = Ratio(np.float64(ratio.total), np.float64(ratio.weight))
                totals[name] = totals[name] + value if name in totals else value
            on_batch(i + 1, count)
        return {name: ratio.mean() for name, ratio in totals.items()}
