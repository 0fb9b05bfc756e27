"""Any text files."""

import dataclasses
import glob

from seqjax.data import _files
from seqjax.data._text import TextWindows
from seqjax.types import Fraction


@dataclasses.dataclass(kw_only=True)
class Text(TextWindows):
    """Text: any UTF-8 files, character by character or byte by byte.

        "To be, or not"  ->  2 6 0 3 4 1 0 6 7 0 5 6 8

    The splits are contiguous: train, then validation, then test. The sizes of the last two are shares of the
    characters; a share of 0 leaves that split out.

    `path`: a file, which may be a `.gz`, or a pattern such as `books/*.txt`. With a pattern, each file is a document;
    the documents are sorted by file name. A byte order mark is dropped. `length`: predictions per window. `tokenizer`:
    "character" (the alphabet is that of all files) or "byte". `validation`, `test`: shares in [0, 1).

    Raises:
      DataError: a file is missing, empty or invalid UTF-8 (with byte offset and line); the text is too short.
    """

    path: str
    validation: Fraction = 0.1
    test: Fraction = 0.1

    def __post_init__(self):
        super().__post_init__()
        if self.validation + self.test >= 1:
            raise ValueError(
                f"validation={self.validation} and test={self.test} leave nothing to train on: "
                f"their sum must be below 1."
            )
        files = _files.matches(self.path) if glob.has_magic(self.path) else [self.path]
        texts = [_files.read_utf8(file) for file in files]
        characters = sum(len(piece) for text in texts for piece in _files.pieces(text))
        validation, test = (round(characters * share) for share in (self.validation, self.test))
        ends = {"train": characters - validation - test}
        if self.validation:
            ends["validation"] = characters - test
        if self.test:
            ends["test"] = characters
        self.cut(texts, ends, str(_files.absolute(self.path)))


Source = Text
