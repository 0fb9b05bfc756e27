"""From a causal model to new sequences, through `Model.step`."""

from seqjax.decoding.sample import Sampling, sample

__all__ = ["Sampling", "sample"]
