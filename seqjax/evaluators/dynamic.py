"""Dynamic evaluation: the model goes on learning from the text that it has predicted."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from seqjax.evaluators._running_text import InOrder, RunningText
from seqjax.types import ConfigError, Count, NonNegative, Positive


@dataclasses.dataclass(frozen=True)
class Dynamic(RunningText):
    """Scores a split as one text (see `full_context`), and takes a gradient step after each window, on its tokens.

        "rms"   theta <- theta - lr g / (s + epsilon) + min(1, decay s / mean(s)) (theta_0 - theta)
        "sgd"   theta <- theta - lr g + decay (theta_0 - theta)

    theta_0 are the trained parameters; each call begins with them, and a checkpoint never changes. s is the root mean
    square of the gradient of each parameter over the first `statistics` batches of train, and mean(s) that of all
    parameters. A token is predicted before the step that sees it. At its end the model has learnt from the split, so
    these numbers stand in columns of their own, and no checkpoint is chosen by them: `dynamic_loss`,
    `dynamic_perplexity`, `dynamic_bits_per_character`. `stride`: the tokens between two steps. Choose `learning_rate`
    and `decay` on validation.

    Krause et al. 2018, "Dynamic evaluation of neural sequence models", arXiv:1709.07432.
    """

    rule: Literal["rms", "sgd"] = "rms"
    learning_rate: Positive = 1e-3
    decay: NonNegative = 1e-2
    epsilon: Positive = 1e-5
    statistics: Count = 20

    def over(self, split, layout):
        if self.model.counted:
            raise ConfigError("evaluators: dynamic follows gradients, but this model counts: remove the evaluator.")
        return _Steps(self, split, layout)


class _Steps(InOrder):
    def __init__(self, of: Dynamic, split: str, layout):
        super().__init__(of, split, layout)
        self.train = of.windows("train", of.loader.batch_size)

        def square(params, batch, carry):
            (_, carry), grads = self._gradient(params, batch, carry)
            return jax.tree.map(jnp.square, grads), carry

        self._square = jax.jit(square, out_shardings=layout.everywhere)

    def _gradient(self, params, batch, carry):
        """The metrics of a batch and the state after it, and the gradient of its loss per token."""

        def loss(params):
            prediction, after, _ = self.of.read(params, batch, carry)
            found = self.of.task.loss(prediction, batch)
            return found["loss"].total / jnp.maximum(found["loss"].weight, 1), (found, after)

        (_, found), grads = jax.value_and_grad(loss, has_aux=True)(params)
        return found, grads

    def start(self, params):
        """The parameters as they change, and how fast each may: s, or 1 for the rule "sgd"."""
        if self.of.rule == "sgd":
            return params, None
        count = min(self.of.statistics, self.train.per_epoch)
        total, carry = None, self.first()
        for batch in self.train.iterate(0, count):
            squares, carry = self._square(params, batch, carry)
            total = squares if total is None else jax.tree.map(jnp.add, total, squares)
        return params, jax.tree.map(lambda a: jnp.sqrt(a / count), total)

    def score(self, params, batch, carry, known):
        of, (now, scale) = self.of, known
        (metrics, carry), grads = self._gradient(now, batch, carry)
        if scale is None:
            change = lambda p, p_0, g: p - of.learning_rate * g + of.decay * (p_0 - p)
            return metrics, carry, (jax.tree.map(change, now, params, grads), None)
        leaves = jax.tree.leaves(scale)
        mean = sum(jnp.sum(s) for s in leaves) / sum(s.size for s in leaves)

        def change(p, p_0, g, s):
            back = jnp.minimum(of.decay * s / mean, 1)
            return p - of.learning_rate * g / (s + of.epsilon) + back * (p_0 - p)

        return metrics, carry, (jax.tree.map(change, now, params, grads, scale), scale)


Evaluator = Dynamic
