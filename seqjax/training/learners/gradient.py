"""Learn by gradients."""

import dataclasses
import functools
import operator

import jax
import jax.numpy as jnp
import optax

from seqjax.training.learners._base import Learner as _Learner


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gradient(_Learner):
    """Gradient descent with an optimiser of optax: the section `optim`.

        g = sum over terms k of coefficient_k * grad(total_k) / weight_k

    The weights are those of the whole batch, so micro-batches and devices change only the order of additions. Terms are
    scaled to the largest weight, and the sum is divided by it once: the gradient of one token has the same size in any
    batch, and float16 can hold it. The gradients of all tokens are summed in float32.
    """

    def init(self, params):
        return self.tx.init(params)

    def collect(self, net, params, batch, weights, carry, key):
        gradient = jax.value_and_grad(self._summed, argnums=1, has_aux=True)
        (_, (terms, metrics, carry)), grads = gradient(net, params, batch, weights, carry, key)
        return (grads, {name: term.weight for name, term in terms.items()}), metrics, carry

    def _summed(self, net, params, batch, weights, carry, key):
        """The sum of the terms, each as large as if it had the largest weight."""
        terms, metrics, carry = self.task.objective(net.at(params, key), batch, carry)
        metrics = self.task.checked(terms, metrics)
        scaled = [self._scaled(name, term.total, weights) for name, term in terms.items()]
        return functools.reduce(operator.add, scaled), (terms, metrics, carry)

    def _scaled(self, name: str, total, weights: dict):
        if weights:
            total = total * (_largest(weights) / _safe(weights[name]))
        return total if self.task.terms[name] == 1 else total * self.task.terms[name]

    def average(self, sums):
        grads, weights = sums
        weight = _safe(_largest(weights))
        return jax.tree.map(lambda g: g / weight.astype(g.dtype), grads)

    def update(self, state, average, params, step):
        tx = optax.with_extra_args_support(self.tx)
        updates, state = tx.update(average, state, params, step=step)
        return optax.apply_updates(params, updates), state


def _largest(weights: dict):
    return functools.reduce(jnp.maximum, weights.values())


def _safe(weight):
    """A batch without targets has weight 0 and gradient 0."""
    return jnp.where(weight > 0, weight, 1.0)


Learner = Gradient
