"""The Python language reference, as text."""

import dataclasses

from seqjax.data._text import TextWindows
from seqjax.types import DataError


@dataclasses.dataclass(kw_only=True)
class Reference(TextWindows):
    """Reference: the Python language reference, character by character, from the standard library; no download.

        The "assert" statement  ->  52 71 68 1 3 64 82 82 68 81 83 3 1 82 83 64 83 68 76 68 77 83

    The text is what `help("assert")` shows: the topics of `pydoc_data`, sorted by name, with a blank line between
    topics. The first 80 % of the characters are train, the next 10 % validation, the last 10 % test.
    The text has about 100 distinct characters. Its size depends on the version of Python: 465,126 characters in 3.11,
    492,311 in 3.12 and 510,742 in 3.13. Compare numbers only within one version.

    `length`: predictions per window. `tokenizer`: "character" (the alphabet is that of the whole text) or "byte".

    Raises:
      DataError: this Python comes without pydoc_data, or train is shorter than one window.

    Licence of the text: PSF License Agreement. © Python Software Foundation.
    """

    def __post_init__(self):
        super().__post_init__()
        try:
            from pydoc_data.topics import topics
        except ModuleNotFoundError as error:
            raise DataError(
                "this Python has no module pydoc_data (some distributions leave it out): install the whole "
                "standard library, or use data.name='text' with a file of your own."
            ) from error
        text = "\n\n".join(topics[name] for name in sorted(topics))
        ends = {"train": len(text) * 8 // 10, "validation": len(text) * 9 // 10, "test": len(text)}
        self.cut([text.encode()], ends, "pydoc_data.topics")


Source = Reference
