"""Models that are built from mixers. Each file defines one model and exposes it as `Model`."""

from seqjax.models._base import Model

__all__ = ["Model"]
