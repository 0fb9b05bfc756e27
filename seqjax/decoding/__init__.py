"""From a causal model, with or without a source, to new sequences, through `Model.step`."""

from seqjax.decoding.sample import Sampling, sample

__all__ = ["Sampling", "sample"]
