"""What learners that count have in common."""

import dataclasses

import jax
import jax.numpy as jnp

from seqjax.training.learners._base import Learner
from seqjax.training.net import Net


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counts(Learner):
    """Adds up the expected counts of a model, and solves for its parameters.

    The model says `solvable = True` and has these methods; all but the first are given the parameters, and read none of
    their own:

        expected(x, state, *, mask_BL, reset_BL, hard, **known) -> sums over rows, and log p(x, known) (B,)
        maximise(sums, params) -> the parameters with the largest expected log p(x, z), plus the log of the prior
        recentre(sums, params, new) -> the sums of `params` as if `new` had made them, with the same weights
        log_prior(sums, params) -> the log of the prior, up to a constant

    `known` is what the task knows beside x, such as the class or the tags (`Task.known`). What was summed is divided by
    nothing, so rows, micro-batches and devices count alike. A batch with an impossible sequence makes a bad step, which
    changes nothing (`guard.Guard`).

    Raises:
      ValueError: the model has no such methods, or a part of it has no closed form.
    """

    optimises = False
    hard = False  # not a field here: whether only the best path counts

    def __post_init__(self):
        super().__post_init__()
        own, model = type(self).__name__, type(self.model).__name__
        if not hasattr(self.model, "maximise"):
            raise ValueError(
                f"{own} adds up expected counts, which {model} does not have: choose learner.name='gradient', or a "
                "model with hidden states or a mixture."
            )
        if not self.model.solvable:
            raise ValueError(
                f"{own} solves for parameters in closed form, and this {model} has a network or another part without "
                "one: choose learner.name='gradient', or another emission, and leave transition_width out."
            )

    def collect(self, net, params, batch, weights, carry, key):
        net = net.at(params)  # nothing is drawn
        terms, metrics, after = self.task.objective(net, batch, carry)
        return self._sums(net, batch, carry), self.task.checked(terms, metrics), after

    def _sums(self, net, batch, carry=None):
        reads = self.task.sequence(batch)
        reads = reads._replace(mask_BL=reads.mask_BL & (batch["weight"] > 0)[:, None])
        sums, log_p_B = net.expected(reads, carry, hard=self.hard, **self.task.known(batch))
        possible = jnp.all(log_p_B > -jnp.inf)
        return jax.tree.map(lambda s: jnp.where(possible, s, jnp.nan), sums)

    def nothing(self, params):
        """The sums of no rows."""
        spec, batch = self.task.spec, {"weight": jax.ShapeDtypeStruct((1,), jnp.float32)}
        for name, column in spec.columns.items():
            axes = () if column.axis is None else (spec.lengths[column.axis],)
            batch[name] = jax.ShapeDtypeStruct((1, *axes, *column.shape), column.dtype)
        shapes = jax.eval_shape(lambda params, batch: self._sums(Net(self.model, params), batch), params, batch)
        return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
