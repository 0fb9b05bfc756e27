"""Emissions: p(x_t | state). `emission.name` is a file here, which exposes its class as `Emission`."""

from seqjax.emissions._base import Emission

__all__ = ["Emission"]
