"""Evaluation: all evaluators of a config over one split."""

import itertools
from collections.abc import Callable

from seqjax import config, lookup
from seqjax.metrics import Way
from seqjax.types import ConfigError, Part

PART = Part("seqjax.evaluators", "Evaluator", many=True)


def _sections(tree: dict) -> list[dict]:
    """The evaluator of the loss, and those of a resolved config."""
    listed = tree["evaluators"] or []
    return [{"name": "loss"}, *([listed] if isinstance(listed, dict) else listed)]


def metrics(tree: dict, task) -> dict[str, Way]:
    """Which way is better, for all metrics of task and evaluators. Raises ConfigError unless one is the monitor."""
    found = dict(task.metrics)
    for section in _sections(tree):
        found |= lookup.find(section["name"], PART.package, PART.symbol).metrics
    if task.monitor not in found:
        near = lookup.nearest(task.monitor, found)
        raise ConfigError(f"task: monitor={task.monitor!r} is not a metric.{near} It has {', '.join(found)}.")
    return found


def evaluators(tree: dict, **parts) -> list:
    """The evaluators of a resolved config, built from the parts of an experiment.

    Raises:
      ConfigError: one is listed twice, or does not fit the data, the task or the model.
    """
    sections = _sections(tree)
    names = [section["name"] for section in sections]
    if again := [name for i, name in enumerate(names) if name in names[:i]]:
        raise ConfigError(f"evaluators: {again[0]!r} would run twice (the loss always runs): remove one of them.")
    made = [config.build(PART, section, f"evaluators: {section['name']}", **parts) for section in sections]
    for evaluator, split in itertools.product(made, ("validation", "test")):
        evaluator.check_split(split)
    return made


class Evaluation:
    """The metrics of all evaluators (see `seqjax.evaluators`); `examples`: how many examples the split has."""

    def __init__(self, evaluators, split: str, layout, write: Callable):
        self.write = write
        self.passes = [evaluator.over(split, layout) for evaluator in evaluators]
        self.examples = self.passes[0].examples  # the first one is that of the loss

    def __call__(
        self, params, step: int, on_batch=lambda done, total: None, give_up=lambda: False
    ) -> dict[str, float] | None:
        """Name -> value; None if `give_up()` returned true before the end."""
        found, before = {}, 0
        total = sum(one.count for one in self.passes)
        for one in self.passes:
            on = lambda done, before=before: on_batch(before + done, total)
            result = one(params, step, on_batch=on, give_up=give_up, write=self.write)
            if result is None:
                return None
            found, before = found | result, before + one.count
        return found
