"""Evaluation over a whole split."""

import jax
import numpy as np

from seqjax.data import Batches
from seqjax.metrics import Ratio


class Evaluator:
    """Means over every example of a split, each counted once: empty rows of the last batch weigh nothing.

    Compiled once per bucket and kept for the next call.
    """

    def __init__(self, eval_step, source, loader, split: str):
        self.batches = Batches(source, split, loader)
        self.split = split
        self._step = jax.jit(eval_step)

    @property
    def examples(self) -> int:
        """How many examples the split has."""
        return self.batches.size

    def __call__(self, params, on_batch=lambda done, total: None) -> dict[str, float]:
        """Name -> mean. Sums are float64 on the host."""
        totals: dict[str, Ratio] = {}
        count = self.batches.per_epoch
        for i, batch in enumerate(self.batches.iterate(0, count)):
            for name, ratio in jax.device_get(self._step(params, batch)).items():
                value = Ratio(np.float64(ratio.total), np.float64(ratio.weight))
                totals[name] = totals[name] + value if name in totals else value
            on_batch(i + 1, count)
        return {name: ratio.mean() for name, ratio in totals.items()}
