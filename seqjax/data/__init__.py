"""Sources of sequences, one file each; a file exposes `Source` under its own name."""

from seqjax.data._source import Source

__all__ = ["Source"]
