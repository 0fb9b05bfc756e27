"""Heads: from x_BLD to what a task reads. Each file defines one head and exposes it as `Head`."""

from seqjax.heads._base import Head

__all__ = ["Head"]
