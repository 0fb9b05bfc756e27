"""How parameters are learnt. `learner.name` is a file here, which exposes its class as `Learner`."""

from seqjax.training.learners._base import Learner

__all__ = ["Learner"]
