"""An experiment: the schema of a config, and what is built of it."""

import dataclasses
from collections.abc import Callable
from functools import cached_property, partial
from typing import Annotated

import jax
import numpy as np

from seqjax import config
from seqjax.data import Batches, Loader, Streams
from seqjax.training import carry
from seqjax.training import state as state_lib
from seqjax.training.optim import Optim
from seqjax.training.parallel import Parallel
from seqjax.types import Checked, ConfigError, Count, Part, Seed, fields_of, marker


@dataclasses.dataclass(frozen=True)
class Train(Checked):
    """How long, and how often what is looked at and saved (in steps; None: never).

    `accumulate` micro-batches make one batch. `patience` evaluations without a better `task.monitor` end the run
    early. The newest `keep` checkpoints stay, and the best. `max_bad_steps` steps in a row with a loss or gradient
    that is not finite end the run.
    """

    steps: Count
    accumulate: Count = 1
    log_every: Count = 50
    eval_every: Count | None = None
    checkpoint_every: Count | None = 500
    keep: Count = 2
    patience: Count | None = None
    max_bad_steps: Count = 10

    def __post_init__(self):
        super().__post_init__()
        if self.patience and not self.eval_every:
            raise ValueError("patience counts evaluations: set train.eval_every.")


@dataclasses.dataclass(frozen=True)
class Schema:
    """The sections of a config."""

    data: Annotated[Callable, Part("seqjax.data", "Source")]
    task: Annotated[Callable, Part("seqjax.tasks", "Task")]
    model: Annotated[Callable, Part("seqjax.models", "Model")]
    train: Train
    optim: Optim = dataclasses.field(default_factory=Optim)
    loader: Loader = dataclasses.field(default_factory=Loader)
    parallel: Parallel = dataclasses.field(default_factory=Parallel)
    seed: Seed = 0


def resolve(tree: dict) -> dict:
    """A config, checked, with every default filled in.

    Raises:
      ConfigError: lists every problem at once.
    """
    tree = config.resolve(Schema, tree)
    optim, train = tree["optim"], tree["train"]
    if optim["warmup"] > train["steps"]:
        raise ConfigError(f"optim.warmup={optim['warmup']} is longer than train.steps={train['steps']}: lower it.")
    return tree


class Experiment:
    """Everything that a resolved config describes, built: source -> task -> model -> optimiser -> batches.

    Raises:
      ConfigError, DataError: what fits only together does not.
    """

    def __init__(self, tree: dict):
        self.config = tree
        self.seed = tree["seed"]
        self.loader, self.train = Loader(**tree["loader"]), Train(**tree["train"])
        self.optim, self.parallel = Optim(**tree["optim"]), Parallel(**tree["parallel"])
        self.parallel.sizes(self.loader.batch, self.train.accumulate)
        part = {k: marker(hint, Part) for k, (hint, _) in fields_of(Schema).items()}
        self.source = config.build(part["data"], tree["data"], "data")
        self.task = config.build(part["task"], tree["task"], "task", spec=self.source.spec)
        self.model = config.build(
            part["model"], tree["model"], "model", inputs=self.source.spec, outputs=self.task.outputs()
        )
        prefix, given = getattr(self.model, "prefix", 0), self.task.given
        if prefix > given:
            raise ConfigError(
                f"mixer.prefix={prefix} shows the first {prefix} tokens to each other, and task.given={given} has all "
                f"after the first {given} predicted: set task.given={prefix}."
            )
        if self.task.carry_state:
            carry.check(self.model, self.source, self.loader)
        self.tx = self.optim.build(self.train.steps)

    @cached_property
    def batches(self) -> Batches:
        """The training batches, by step."""
        if self.task.carry_state:
            return Streams(self.source, "train", self.loader)
        return Batches(self.source, "train", self.loader, seed=self.seed, shuffle=True)

    @cached_property
    def make_state(self):
        """() -> the state before the first step."""
        batch = jax.tree.map(np.zeros_like, self.batches.first)
        ema = self.optim.ema is not None
        return partial(state_lib.init, self.model, self.task, self.tx, batch, self.seed, ema)

    @cached_property
    def shapes(self) -> state_lib.State:
        """Shapes and dtypes of the state.

        Raises:
          ConfigError: the model refuses the data.
        """
        try:
            return jax.eval_shape(self.make_state)
        except ValueError as error:
            reason = str(error).split("\n-----")[0]  # what JAX adds about its own traceback
            raise ConfigError(f"model: {reason}") from error
