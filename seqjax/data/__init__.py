"""Sources of sequences, one file each; a file exposes `Source` under its own name. `Batches` makes batches of them.

`Streams` does so in reading order.
"""

from seqjax.data._loader import Batches, Loader
from seqjax.data._source import Source
from seqjax.data._streams import Streams

__all__ = ["Batches", "Loader", "Source", "Streams"]
