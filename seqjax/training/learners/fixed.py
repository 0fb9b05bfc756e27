"""Learn nothing."""

import dataclasses

from seqjax.training.learners._base import Learner as _Learner


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fixed(_Learner):
    """Changes no parameter: a step only measures the loss of its batch.

    For models that are counted (`markov`), and to evaluate the parameters that `init.run` names. One step is enough.
    """

    changes = optimises = False

    def init(self, params):
        return {}

    def collect(self, net, params, batch, weights, carry, key):
        terms, metrics, carry = self.task.objective(net.at(params, key), batch, carry)
        return {}, self.task.checked(terms, metrics), carry

    def update(self, state, average, params, step):
        return params, state


Learner = Fixed
