"""Mixers: layers that mix the tokens of a sequence. Each file defines one mixer and exposes it as `Mixer`."""

from seqjax.mixers._base import Mixer

__all__ = ["Mixer"]
