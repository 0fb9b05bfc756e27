"""Ways to mix a sequence, one file each; a file exposes `Mixer` under its own name."""

from seqjax.mixers._base import Mixer

__all__ = ["Mixer"]
