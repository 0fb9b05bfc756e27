"""Evaluation: all evaluators of an experiment over one split."""

from collections.abc import Callable


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
