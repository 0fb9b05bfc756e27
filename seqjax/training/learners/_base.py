"""The contract of a learner."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any

from seqjax.training.net import Net
from seqjax.types import Checked, Injected


@dataclasses.dataclass(frozen=True, kw_only=True)
class Learner(Checked):
    """Turns batches into new parameters, by sums over the rows of a batch.

    The step adds up what `collect` returns for all micro-batches and devices, gives the sums to `update`, and keeps the
    result unless it is bad. So accumulation, devices, the guard, the moving average and checkpoints are the same for
    all learners. `tx` is the optimiser that the section `optim` describes, and `trained` says which parameters it
    trains (`optim.Optim.trained`); a learner that needs no gradient reads neither, and sets `optimises` to False: then
    the keys of `optim` are refused, but for `ema_decay`. `model` is for learners that solve for its parameters.
    """

    task: Annotated[Any, Injected]
    tx: Annotated[Any, Injected] = None
    trained: Annotated[Callable, Injected] = lambda step, new, old=None: new
    model: Annotated[Any, Injected] = None

    optimises = True  # not a field: whether it reads the section `optim`

    changes = True  # not a field: whether a step changes parameters

    def init(self, params):
        """The state before the first step: a tree of arrays, which are saved as `opt_state`."""
        raise NotImplementedError

    def collect(self, net: Net, params, batch, weights: dict, carry, key):
        """What a batch, or a part of one, says about the parameters.

        Args:
          net: the model; `net.at(params, key)` reads the batch with these parameters.
          weights: term -> summed weight in the whole batch (`task.weights`); {} if the task has a single term.
          carry: the state of the model before the batch, or None.

        Returns:
          A tree of sums over rows, the metrics of the task, and the state of the model after the batch.
        """
        raise NotImplementedError

    def average(self, sums):
        """What `update` gets, from the sums over the whole batch; the guard measures its norm."""
        return sums

    def update(self, state, average, params, step):
        """The new parameters and the new state."""
        raise NotImplementedError
