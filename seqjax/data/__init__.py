"""Sources of sequences, one file each; a file exposes `Source` under its own name. `Batches` makes batches of them."""

from seqjax.data._loader import Batches, Loader
from seqjax.data._source import Source

__all__ = ["Batches", "Loader", "Source"]
