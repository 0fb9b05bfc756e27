"""Sources of sequences, one per file: `data.name` is the name of the file, which exposes its class as `Source`.

`Batches` makes batches of examples, `Streams` makes batches in reading order, `Sliding` makes windows that overlap.
"""

from seqjax.data._batches import Batches
from seqjax.data._checks import check_memory
from seqjax.data._documents import documents
from seqjax.data._loader import Loader
from seqjax.data._sliding import Sliding
from seqjax.data._source import Source
from seqjax.data._streams import Streams
from seqjax.data._text import TextWindows

__all__ = ["Batches", "Loader", "Sliding", "Source", "Streams", "TextWindows", "check_memory", "documents"]
