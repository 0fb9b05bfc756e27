"""The loss and the other metrics of the task."""

import dataclasses

import jax
import numpy as np

from seqjax.data import Batches, Streams
from seqjax.evaluators import _base
from seqjax.training.step import make_eval_step


@dataclasses.dataclass(frozen=True)
class Loss(_base.Evaluator):
    """Means of the task's metrics over every example. It always runs, first; a config does not list it.

    Each example counts once: empty rows of the last batch have weight 0. With `task.carry_state` the rows are streams.
    Each stream starts with a new state and carries it to its end. The rows are spread over the devices; each process
    reads its own rows. The step is compiled once per bucket and reused by the next call.
    """

    def over(self, split, layout):
        return Sums(self, split, layout)


class Sums(_base.Pass):
    """Sums over a split, float64 on the host. `examples`: how many examples the split has; None: endless."""

    def __init__(self, of: Loss, split: str, layout):
        self.batches = (Streams if of.task.carry_state else Batches)(of.source, split, of.loader)
        self.count, self.examples = self.batches.per_epoch, self.batches.size
        self.layout, size = layout, of.loader.batch_size
        self._start = None
        if of.task.carry_state:
            self._start = jax.jit(of.model.init_state, static_argnums=0, out_shardings=layout.for_rows(size))(size)
        self._step = layout.evaluate(make_eval_step(of.model, of.task), size)

    def __call__(self, params, step, *, on_batch, give_up, write):
        totals = {}
        carry, size = self._start, self.batches.loader.batch_size
        for i, batch in enumerate(self.batches.iterate(0, self.count, rows=self.layout.rows(size))):
            metrics, carry = self._step(params, self.layout.place(batch, size), carry)
            for name, value in jax.tree.map(np.float64, jax.device_get(metrics)).items():
                totals[name] = totals[name] + value if name in totals else value
            on_batch(i + 1)
            if give_up():
                return None
        return {name: sums.mean() for name, sums in totals.items()}


Evaluator = Loss
