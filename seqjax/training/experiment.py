"""An experiment: the schema of a config, and the objects built from it."""

import dataclasses
from collections.abc import Callable
from functools import cached_property, partial
from typing import Annotated

import jax
import numpy as np

from seqjax import config, lookup, renamed
from seqjax.data import Batches, Loader, Source, Streams, check_memory, documents
from seqjax.models import Model
from seqjax.tokenizers import Tokenizer
from seqjax.training import agreement, carry, evaluate
from seqjax.training import state as state_lib
from seqjax.training.guard import Guard
from seqjax.training.learners.gradient import Gradient
from seqjax.training.optim import Optim
from seqjax.training.origin import Init
from seqjax.training.parallel import Parallel
from seqjax.training.step import make_train_step
from seqjax.types import Checked, ConfigError, Count, Part, Seed, fields_of, marker


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
    learner: Annotated[Callable, Part("seqjax.training.learners", "Learner")] = Gradient
    optim: Optim = dataclasses.field(default_factory=Optim)
    loader: Loader = dataclasses.field(default_factory=Loader)
    parallel: Parallel = dataclasses.field(default_factory=Parallel)
    guard: Guard = dataclasses.field(default_factory=Guard)
    init: Init = dataclasses.field(default_factory=Init)
    evaluators: Annotated[Callable | None, evaluate.PART] = None
    seed: Seed = 0


PARTS = {name: part for name, (hint, _) in fields_of(Schema).items() if (part := marker(hint, Part))}


def resolve(tree: dict) -> dict:
    """Checks a config and fills in every default. Raises ConfigError, which lists every problem at once."""
    tree = config.resolve(Schema, renamed.modern(tree))
    optim, train = tree["optim"], tree["train"]
    if optim["warmup_steps"] > train["steps"]:
        raise ConfigError(
            f"optim.warmup_steps={optim['warmup_steps']} is longer than train.steps={train['steps']}: lower it."
        )
    for i, group in enumerate(optim["groups"]):
        if group["from_step"] >= train["steps"]:
            raise ConfigError(
                f"optim.groups.{i}.from_step={group['from_step']} is after the last step of train.steps="
                f"{train['steps']}: lower it, or write rate=0 to freeze for the whole run."
            )
    if train["steps_per_call"] > 1 and len(tree["loader"]["buckets"]) > 1:
        raise ConfigError(
            f"train.steps_per_call={train['steps_per_call']} needs batches of one length, got "
            f"loader.buckets={tree['loader']['buckets']}: remove one of the two keys."
        )
    return tree


def today(tree: dict) -> dict:
    """A config of an older version with today's names and defaults; unchanged if it is not valid any more."""
    try:
        return resolve(tree)
    except ConfigError:
        return tree


class Experiment:
    """The objects that a resolved config describes: source -> task -> model -> optimiser -> batches.

    `source`: the source that section `data` describes, if it was built before. `saved`: the tokenizer file that the
    source reads in place of training a tokenizer (see `tokenizer_file.to_read`).

    Raises:
      ConfigError, DataError: sections of the config do not fit together.
    """

    def __init__(self, tree: dict, source: Source | None = None, saved: bytes | None = None):
        if jax.config.jax_enable_x64:
            raise ConfigError("JAX_ENABLE_X64 is set, but parameters and states are float32: unset it.")
        self.config = tree
        self.seed = tree["seed"]
        self.loader, self.train = Loader(**tree["loader"]), Train(**tree["train"])
        self.optim, self.parallel = config.made(Optim, tree["optim"]), Parallel(**tree["parallel"])
        self.guard, self.init = Guard(**tree["guard"]), Init(**tree["init"])
        self.source = self._source(tree["data"], saved) if source is None else source
        if self.train.eval_every and "validation" not in self.source.spec.splits:
            raise ConfigError(
                f"train.eval_every={self.train.eval_every} evaluates on validation, but data has "
                f"only {', '.join(self.source.spec.splits)}: give it a validation split, or set train.eval_every=None."
            )
        longest = (self.loader.buckets or [self.source.spec.length])[-1]
        batches = (self.loader.prefetch + 1) * self.train.steps_per_call
        if self.loader.places and jax.process_count() > 1:
            raise ConfigError(
                f"loader.places={self.loader.places} gives batches of several sizes, and {jax.process_count()} "
                "processes need one: set only loader.batch_size."
            )
        rows = -(-self.loader.rows(longest) // jax.process_count())
        check_memory(self.source.spec, self.loader, longest, batches=batches, rows=rows)
        self.task = config.build(PARTS["task"], tree["task"], "task", spec=self.source.spec)
        self.model = self._model(tree["model"])
        if self.task.carry_state:
            carry.check(self.model, self.source, self.loader)
        tx = self.optim.build(self.train.steps, lambda params: self._matrices)
        of = dict(task=self.task, tx=tx, trained=self.optim.trained, model=self.model)
        self.learner = config.build(PARTS["learner"], tree["learner"], "learner", **of)
        agreement.check(self)
        self.metrics = evaluate.metrics(tree, self.task)
        parts = dict(model=self.model, task=self.task, source=self.source, loader=self.loader, seed=self.seed)
        self.evaluators = evaluate.evaluators(tree, **parts)

    def _source(self, section: dict, saved: bytes | None) -> Source:
        part = PARTS["data"]
        textual = "saved" in fields_of(lookup.find(section["name"], part.package, part.symbol))
        return config.build(part, section, "data", **({"saved": saved} if textual else {}))

    @property
    def tokenizer(self) -> bytes | None:
        """The file of the tokenizer that was trained for these data; None: its tokens need none."""
        codec = getattr(self.source, "codec", None)
        return codec.content if isinstance(codec, Tokenizer) and codec.learnt else None

    def _model(self, section: dict) -> Model:
        """The model with the head of the task. Refuses a class of another kind, and a model that sees too much."""
        part = PARTS["model"]
        target = lookup.find(section["name"], part.package, part.symbol)
        if not issubclass(target, Model):
            raise ConfigError(f"model.name={section['name']!r} is not a subclass of seqjax.models.Model: make it one.")
        head = partial(self.task.head, outputs=self.task.outputs())
        text = {"documents": partial(documents, self.source)} if target.counted else {}
        model = config.build(part, section, "model", inputs=self.source.spec, head=head, **text)
        if self.task.causal and not model.causal:
            raise ConfigError(
                f"task: {type(self.task).__name__} predicts tokens that the model must not see, but {model.ahead[0]} "
                "sees them: choose a causal mixer (model.mixer), or a task whose predictions may depend on all tokens."
            )
        return model

    @cached_property
    def batches(self) -> Batches:
        """The training batches, by step."""
        if self.task.carry_state:
            return Streams(self.source, "train", self.loader, seed=self.seed, shuffle=True)
        return Batches(self.source, "train", self.loader, seed=self.seed, shuffle=True)

    @cached_property
    def _zeros(self):
        """A batch of zeros."""
        return jax.tree.map(np.zeros_like, self.batches.first)

    @cached_property
    def _matrices(self):
        return state_lib.matrices(self.model, self.task, self._zeros)

    def program(self, layout=None, axis: str | None = None):
        """The training step on the devices of `layout`, with the psum of pmap over `axis`; None: on one device."""
        how = {"accumulate": self.train.accumulation_steps, "ema": self.optim.ema_decay, "spike": self.guard.spike}
        how |= {} if layout is None else {"use": layout.use}
        return make_train_step(self.model, self.task, self.learner, axis=axis, **how)

    @cached_property
    def make_state(self):
        """() -> the state before the first step; compiled."""
        ema = self.optim.ema_decay is not None
        spike = self.guard.spike is not None
        make = partial(state_lib.init, self.model, self.task, self.learner, self._zeros, self.seed, ema, spike)
        return jax.jit(make, inline=True)  # traced once, both for its shapes and for its shardings

    @cached_property
    def shapes(self) -> state_lib.State:
        """Shapes and dtypes of the state.

        Raises:
          ConfigError: the model refuses the data, or `optim.groups` do not fit its parameters.
        """
        make = self.make_state  # reads a batch, whose errors are not those of the model
        try:
            shapes = jax.eval_shape(make)
        except ValueError as error:
            reason = str(error).split("\n-----")[0]  # what JAX adds about its own traceback
            raise ConfigError(f"model: {reason}") from error
        self.optim.rules(shapes.params)
        return shapes
