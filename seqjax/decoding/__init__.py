"""Draws new sequences from a causal model, with or without a source, through `Model.step`."""

from seqjax.decoding.sample import Sampling, sample

__all__ = ["Sampling", "sample"]
