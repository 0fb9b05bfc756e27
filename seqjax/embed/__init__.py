"""Embeddings: from what a batch holds to x_BLD. Each file defines one embedding and exposes it as `Embed`."""

from seqjax.embed._base import Embed

__all__ = ["Embed"]
