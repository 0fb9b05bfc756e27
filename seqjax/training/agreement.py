"""Whether the parts of an experiment agree with each other."""

import dataclasses

from seqjax.training.optim import Optim
from seqjax.types import ConfigError


def check(experiment) -> None:
    """Raises ConfigError unless source, task, model, batches and learner of an `Experiment` fit together."""
    _check_prefix(experiment)
    _check_buckets(experiment)
    if experiment.parallel.sequence > 1:
        _check_cuts(experiment, experiment.parallel.sequence)
    _check_learner(experiment)


def _check_prefix(e) -> None:
    """Refuses a model that sees tokens that it must predict."""
    prefix, given = e.model.prefix, e.task.prompt_length
    if prefix > given:
        raise ConfigError(
            f"mixer.prefix={prefix} lets the first {prefix} tokens attend to each other, but with "
            f"task.prompt_length={given} the model predicts all after the first {given}: set "
            f"task.prompt_length={prefix}."
        )


def _check_buckets(e) -> None:
    """Refuses batches of which the model reads nothing, and an option that only streams read."""
    if e.loader.buckets and e.task.length(e.loader.buckets[0]) < 1:
        raise ConfigError(
            f"loader.buckets={list(e.loader.buckets)}: the model predicts the next token, so it reads none of "
            f"{e.loader.buckets[0]} token: make the first bucket longer."
        )
    if e.loader.random_lengths and not e.task.carry_state:
        raise ConfigError(
            f"loader.random_lengths={e.loader.random_lengths} is for windows that go on where others ended: set "
            "task.carry_state=True, or leave it out."
        )


def _check_cuts(e, n: int) -> None:
    """Refuses sequences that cannot be cut into `n` equal chunks, or a model that needs whole sequences."""
    if whole := e.model.whole:
        raise ConfigError(
            f"parallel.sequence={n} cuts sequences over devices, but {', '.join(dict.fromkeys(whole))} cannot work "
            "on parts of a sequence: choose attention, a linear recurrence without the delta rule, or "
            "parallel.sequence=1."
        )
    for length in e.loader.buckets or (e.source.spec.length,):
        if (read := e.task.length(length)) % n:
            raise ConfigError(
                f"parallel.sequence={n} does not divide the {read} tokens that the model reads of "
                f"examples of length {length}: choose another data.length, loader.buckets or parallel.sequence."
            )


def _check_learner(e) -> None:
    """Refuses to change what was counted, to average what does not change, and options that nobody reads."""
    name, model = (e.config[section]["name"] for section in ("learner", "model"))
    if e.model.counted and e.learner.changes:
        raise ConfigError(
            f"learner.name={name!r} changes parameters, but those of model.name={model!r} are counted before the "
            "first step: set learner.name='fixed' and train.steps=1."
        )
    if e.optim.ema_decay is not None and not e.learner.changes:
        raise ConfigError(
            f"optim.ema_decay={e.optim.ema_decay} averages parameters, but learner.name={name!r} does not change "
            "them: set optim.ema_decay=None."
        )
    keys = {field.name for field in dataclasses.fields(Optim)} - {"ema_decay"}
    unread = [key for key in sorted(keys) if getattr(e.optim, key) != getattr(Optim(), key)]
    if unread and not e.learner.optimises:
        raise ConfigError(
            f"optim.{unread[0]}={getattr(e.optim, unread[0])!r}: learner.name={name!r} has no optimiser: leave out "
            f"{', '.join(unread)} (--config.optim={{}})."
        )
