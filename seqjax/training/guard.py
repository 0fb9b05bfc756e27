"""Decides what happens to a run whose loss or gradients are bad."""

import dataclasses
import math
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp

from seqjax.types import Checked, Count, Natural, NumericsError, Range

SPAN = 100  # good steps in the running mean of gradient norms, approximately
WARM_UP = 10  # good steps before a step can be a spike


@dataclasses.dataclass(frozen=True)
class Guard(Checked):
    """A step is bad if its loss or gradient is not finite, or if it is a spike; it then changes no parameter.

        spike:  |g| > spike * mean of |g| over good steps

    The mean is over all good steps until there are 100 of them; after that each step moves it by a hundredth of the
    difference. None of the first 10 good steps is a spike. `spike=None` accepts any finite step. The mean is part of
    the state: a run that started without `spike` cannot turn it on later.

    policy="skip": bad steps are skipped, but `max_bad_steps` in a row end the run. "stop": the first bad step ends it.
    "rollback": after `max_bad_steps` in a row the run goes back to the newest checkpoint before them and never uses the
    batches since that checkpoint again. After `max_rollbacks` rollbacks the next one ends the run.

    The parameters are checked before a checkpoint is written. If one is not finite, this counts as too many bad
    steps, and nothing is written. With `train.steps_per_call` steps are counted at the end of each call.
    """

    policy: Literal["skip", "stop", "rollback"] = "skip"
    max_bad_steps: Count = 10
    spike: Annotated[float, Range(above=1, below=math.inf)] | None = None
    max_rollbacks: Natural = 3

    def check(self, step: int, bad: int) -> None:
        """Raises TooBad if `bad` steps in a row up to `step` are more than the policy allows."""
        most = 1 if self.policy == "stop" else self.max_bad_steps
        if bad >= most:
            first = step - bad + 1
            last = first + most - 1  # the step at the limit, so that a late check gives the same result
            were = f"step {last} was" if most == 1 else f"{most} steps in a row up to step {last} were"
            spike = "" if self.spike is None else f", or the gradient's norm is above {self.spike:g} x its mean"
            raise TooBad(first, last, f"{were} bad: the loss or gradient is not finite{spike}")

    def check_parameters(self, step: int, params) -> None:
        """Raises TooBad if a parameter that is about to be saved is not finite."""
        if not jax.device_get(_finite(params)):
            raise TooBad(step, step, f"a parameter is not finite after step {step}")

    def verdict(
        self,
        bad: "TooBad",
        rollbacks: int,
        checkpoints: Path,
        kept: bool,
        clip: float | None,
        dtype: str | None,
        optimises: bool = True,
    ) -> NumericsError:
        """The error that ends a run.

        Args:
          kept: whether it has a checkpoint.
          clip, dtype: its optim.clip_norm and model.dtype.
          optimises: whether its learner reads the section optim.
        """
        after = f" after {rollbacks} rollbacks" if self.policy == "rollback" else ""
        left = f"the last good parameters are in {checkpoints}" if kept else f"no checkpoint is in {checkpoints} yet"
        if not optimises:
            fix = "look for the cause in the data and the model"
        elif bad.first == 1:  # all parameters still have their initial values
            fix = "no step was good, so look for the cause in the data and the model, not in optim.learning_rate"
        else:
            fixes = [
                ("lower optim.learning_rate", True),
                ("set optim.clip_norm", clip is None),
                ("raise guard.spike", self.spike),
            ]
            fix = f"{', '.join(fix for fix, helps in fixes if helps)}, or check the data"
        if dtype == "float16":
            fix = f"set model.dtype='bfloat16', as float16 overflows above 65504. If that does not help, {fix}"
        return NumericsError(f"{bad}{after}; {left}: {fix}.")


class TooBad(Exception):
    """The run cannot continue after the bad steps `first` to `last`."""

    def __init__(self, first: int, last: int, reason: str):
        super().__init__(reason)
        self.first, self.last = first, last


class Norms(NamedTuple):
    """The running mean of gradient norms over good steps, and their number, counted to SPAN."""

    mean: jax.Array
    count: jax.Array

    @classmethod
    def zero(cls) -> "Norms":
        """The value before the first step."""
        return cls(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32))

    def is_spike(self, norm, factor: float):
        """Whether a norm is a spike."""
        return (self.count >= WARM_UP) & (norm > factor * self.mean)

    def add(self, norm) -> "Norms":
        """The mean and count with one more norm."""
        count = jnp.minimum(self.count + 1, SPAN)
        return Norms(self.mean + (norm.astype(jnp.float32) - self.mean) / count, count)


@jax.jit
def _finite(tree):
    return jnp.all(jnp.array([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]))
