"""Evaluation over a whole split."""

import jax
import numpy as np

from seqjax.data import Batches, Streams
from seqjax.training.step import make_eval_step


class Evaluator:
    """Means over every example of a split. Each example counts once: empty rows of the last batch have weight 0.

    With `task.carry_state` the rows are streams. Each stream starts with a new state and carries it to its end.
    The rows are spread over the devices of `layout`; each process reads its own rows. The step is compiled once per
    bucket and reused by the next call.
    """

    def __init__(self, model, task, source, loader, split: str, layout):
        self.batches = (Streams if task.carry_state else Batches)(source, split, loader)
        self.split, self.layout = split, layout
        self._start = None
        if task.carry_state:
            self._start = jax.jit(model.init_state, static_argnums=0, out_shardings=layout.for_rows(loader.batch_size))(
                loader.batch_size
            )
        self._step = layout.evaluate(make_eval_step(model, task), loader.batch_size)

    @property
    def examples(self) -> int:
        """How many examples the split has."""
        return self.batches.size

    def __call__(self, params, on_batch=lambda done, total: None, give_up=lambda: False) -> dict[str, float] | None:
        """Name -> mean; None if `give_up()` returned true before the end. Sums are float64 on the host."""
        totals = {}
        count, carry = self.batches.per_epoch, self._start
        size = self.batches.loader.batch_size
        for i, batch in enumerate(self.batches.iterate(0, count, rows=self.layout.rows(size))):
            metrics, carry = self._step(params, self.layout.place(batch, size), carry)
            for name, value in jax.tree.map(np.float64, jax.device_get(metrics)).items():
                totals[name] = totals[name] + value if name in totals else value
            on_batch(i + 1, count)
            if give_up():
                return None
        return {name: sums.mean() for name, sums in totals.items()}
