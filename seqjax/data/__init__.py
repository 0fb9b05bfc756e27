"""Sources of sequences, one per file: `data.name` is the name of the file, which exposes its class as `Source`.

`Batches` makes batches of examples, `Streams` makes batches in reading order.
"""

from seqjax.data._checks import check_memory
from seqjax.data._documents import documents
from seqjax.data._loader import Batches, Loader
from seqjax.data._source import Source
from seqjax.data._streams import Streams

__all__ = ["Batches", "Loader", "Source", "Streams", "check_memory", "documents"]
