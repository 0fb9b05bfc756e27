"""An experiment: the schema of a config, and the objects built from it."""

import dataclasses
import itertools
from collections.abc import Callable
from functools import cached_property, partial
from typing import Annotated

import jax
import numpy as np

from seqjax import config, renamed
from seqjax.data import Batches, Loader, Source, Streams
from seqjax.training import carry, cost
from seqjax.training import state as state_lib
from seqjax.training.guard import Guard
from seqjax.training.optim import Optim
from seqjax.training.origin import Init
from seqjax.training.parallel import Parallel
from seqjax.types import Checked, ConfigError, Count, Part, Seed, fields_of, marker

OVERHEAD = 500  # bytes of Python objects per example, at least, in addition to its numbers


@dataclasses.dataclass(frozen=True)
class Train(Checked):
    """How long to train, and how often to log, evaluate and save (in steps; None: only at the end).

    `accumulation_steps` micro-batches make one batch. `steps_per_call` steps run as one program, and their batches are
    sent together: for models so small that the host would be slower than the device. Logging, evaluation and saving
    then happen at multiples of `steps_per_call`. `patience` evaluations without a better `task.monitor` end the run
    early. The newest `keep_checkpoints` checkpoints and the best one are kept.
    """

    steps: Count
    accumulation_steps: Count = 1
    steps_per_call: Count = 1
    log_every: Count = 50
    eval_every: Count | None = None
    checkpoint_every: Count | None = 500
    keep_checkpoints: Count = 2
    patience: Count | None = None

    def __post_init__(self):
        super().__post_init__()
        for name in ("steps", "log_every", "eval_every", "checkpoint_every"):
            if (getattr(self, name) or 0) % self.steps_per_call:
                got = f"{name}={getattr(self, name)}"
                raise ValueError(f"{got} is not a multiple of steps_per_call={self.steps_per_call}: choose a multiple.")
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
    guard: Guard = dataclasses.field(default_factory=Guard)
    init: Init = dataclasses.field(default_factory=Init)
    evaluators: Annotated[Callable | None, Part("seqjax.evaluators", "Evaluator", many=True)] = None
    seed: Seed = 0


def resolve(tree: dict) -> dict:
    """Checks a config and fills in every default.

    Raises:
      ConfigError: lists every problem at once.
    """
    tree = config.resolve(Schema, renamed.modern(tree))
    optim, train = tree["optim"], tree["train"]
    if optim["warmup_steps"] > train["steps"]:
        raise ConfigError(
            f"optim.warmup_steps={optim['warmup_steps']} is longer than train.steps={train['steps']}: lower it."
        )
    if train["steps_per_call"] > 1 and len(tree["loader"]["buckets"]) > 1:
        raise ConfigError(
            f"train.steps_per_call={train['steps_per_call']} needs batches of one length, got "
            f"loader.buckets={tree['loader']['buckets']}: remove one of the two keys."
        )
    return tree


class Experiment:
    """The objects that a resolved config describes: source -> task -> model -> optimiser -> batches.

    `source`: the source that section `data` describes, if it was built before.

    Raises:
      ConfigError, DataError: sections of the config do not fit together.
    """

    def __init__(self, tree: dict, source: Source | None = None):
        if jax.config.jax_enable_x64:
            raise ConfigError("JAX_ENABLE_X64 is set, but parameters and states are float32: unset it.")
        self.config = tree
        self.seed = tree["seed"]
        self.loader, self.train = Loader(**tree["loader"]), Train(**tree["train"])
        self.optim, self.parallel = Optim(**tree["optim"]), Parallel(**tree["parallel"])
        self.guard, self.init = Guard(**tree["guard"]), Init(**tree["init"])
        part = {k: marker(hint, Part) for k, (hint, _) in fields_of(Schema).items()}
        self.source = config.build(part["data"], tree["data"], "data") if source is None else source
        if self.train.eval_every and "validation" not in self.source.spec.splits:
            raise ConfigError(
                f"train.eval_every={self.train.eval_every} evaluates on validation, but data has "
                f"only {', '.join(self.source.spec.splits)}: give it a validation split, or set train.eval_every=None."
            )
        self._check_room()
        self.task = config.build(part["task"], tree["task"], "task", spec=self.source.spec)
        self.model = config.build(
            part["model"], tree["model"], "model", inputs=self.source.spec, outputs=self.task.outputs()
        )
        prefix, given = getattr(self.model, "prefix", 0), self.task.prompt_length
        if prefix > given:
            raise ConfigError(
                f"mixer.prefix={prefix} lets the first {prefix} tokens attend to each other, but with "
                f"task.prompt_length={given} the model predicts all after the first {given}: set "
                f"task.prompt_length={prefix}."
            )
        if self.loader.buckets and self.task.length(self.loader.buckets[0]) < 1:
            raise ConfigError(
                f"loader.buckets={list(self.loader.buckets)}: the model predicts the next token, so it reads none of "
                f"{self.loader.buckets[0]} token: make the first bucket longer."
            )
        if self.parallel.sequence > 1:
            self._check_cuts(self.parallel.sequence)
        if self.task.carry_state:
            carry.check(self.model, self.source, self.loader)
        self.evaluators = self._evaluators(part["evaluators"])
        self.tx = self.optim.build(self.train.steps, lambda params: self._matrices)

    def _evaluators(self, part: Part) -> list:
        """The evaluator of the loss, and those of the config."""
        listed = self.config["evaluators"] or []
        sections = [{"name": "loss"}, *([listed] if isinstance(listed, dict) else listed)]
        names = [section["name"] for section in sections]
        if again := [name for i, name in enumerate(names) if name in names[:i]]:
            raise ConfigError(f"evaluators: {again[0]!r} would run twice (the loss always runs): remove one of them.")
        parts = dict(model=self.model, task=self.task, source=self.source, loader=self.loader, seed=self.seed)
        made = [config.build(part, section, f"evaluators: {section['name']}", **parts) for section in sections]
        for evaluator, split in itertools.product(made, ("validation", "test")):
            evaluator.check_split(split)
        return made

    @property
    def metrics(self) -> dict[str, str]:
        """Name -> "more" or "less", of each metric that the evaluators report in addition to the task."""
        return {name: way for evaluator in self.evaluators for name, way in evaluator.metrics.items()}

    def _check_room(self) -> None:
        """Refuses batches or examples that are too large for the memory of this machine, which makes them."""
        spec, loader = self.source.spec, self.loader
        a_place = 4 * (spec.features or 1) + 2
        example = spec.length * a_place + (spec.source_length or 0) * 5
        row = (loader.buckets or [spec.length])[-1] * a_place + (spec.source_length or 0) * 5 + OVERHEAD
        batches = (loader.prefetch + 1) * self.train.steps_per_call
        # The examples of one batch are read whole, then cut.
        rows, have = -(-loader.batch_size // jax.process_count()), cost.memory()
        need = rows * max(example, batches * row)
        if need > have:
            what, also = (f"{batches:,} batches", ", loader.prefetch") if batches * row > example else ("a batch", "")
            raise ConfigError(
                f"the memory for {what} of {loader.batch_size:,} examples, up to {spec.length:,} long, is {need:,} "
                f"bytes, but this machine has {have:,}: lower loader.batch_size{also} or data.length."
            )

    def _check_cuts(self, n: int) -> None:
        """Refuses sequences that cannot be cut into `n` equal chunks, or a model that needs whole sequences."""
        if whole := getattr(self.model, "whole", [type(self.model).__name__]):
            raise ConfigError(
                f"parallel.sequence={n} cuts sequences over devices, but {', '.join(dict.fromkeys(whole))} cannot work "
                "on parts of a sequence: choose attention or a linear recurrence, or parallel.sequence=1."
            )
        for length in self.loader.buckets or (self.source.spec.length,):
            if (read := self.task.length(length)) % n:
                raise ConfigError(
                    f"parallel.sequence={n} does not divide the {read} tokens that the model reads of "
                    f"examples of length {length}: choose another data.length, loader.buckets or parallel.sequence."
                )

    @cached_property
    def batches(self) -> Batches:
        """The training batches, by step."""
        if self.task.carry_state:
            return Streams(self.source, "train", self.loader)
        return Batches(self.source, "train", self.loader, seed=self.seed, shuffle=True)

    @cached_property
    def _zeros(self):
        """A batch of zeros."""
        return jax.tree.map(np.zeros_like, self.batches.first)

    @cached_property
    def _matrices(self):
        return state_lib.matrices(self.model, self.task, self._zeros)

    @cached_property
    def make_state(self):
        """() -> the state before the first step; compiled."""
        ema = self.optim.ema_decay is not None
        spike = self.guard.spike is not None
        make = partial(state_lib.init, self.model, self.task, self.tx, self._zeros, self.seed, ema, spike)
        return jax.jit(make, inline=True)  # traced once, both for its shapes and for its shardings

    @cached_property
    def shapes(self) -> state_lib.State:
        """Shapes and dtypes of the state.

        Raises:
          ConfigError: the model refuses the data.
        """
        make = self.make_state  # reads a batch, whose errors are not those of the model
        try:
            return jax.eval_shape(make)
        except ValueError as error:
            reason = str(error).split("\n-----")[0]  # what JAX adds about its own traceback
            raise ConfigError(f"model: {reason}") from error
