"""Mixers: layers that mix the tokens of a sequence. Each file defines one mixer and exposes it as `Mixer`."""

from seqjax.mixers._base import Mixer
from seqjax.mixers._linear import LinearMixer

__all__ = ["LinearMixer", "Mixer"]
