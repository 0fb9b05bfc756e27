"""seqjax: train and compare sequence models with attention or recurrence, in JAX and Flax."""

__version__ = "0.1.0"
