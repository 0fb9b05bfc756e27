"""Tiny Shakespeare."""

import dataclasses
import hashlib

from seqjax.data import _files
from seqjax.data._text import TextWindows
from seqjax.types import DataError

SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


@dataclasses.dataclass(kw_only=True)
class TinyShakespeare(TextWindows):
    """Tiny Shakespeare: a megabyte of plays, character by character.

        "First Citizen:\\nBefore we"  ->  18 47 56 57 58 1 15 47 58 47 64 43 52 10 0 14 ...

    1,115,394 characters, 65 distinct ones. The first 90 % are train (1,003,854), the last 10 % validation (111,540);
    there is no test split. The README of karpathy/nanoGPT gives 1.4697 nats, that is 2.120 bits, per character on
    validation, for 6 layers of width 384 and a context of 256.

    Reads `<dir>/tinyshakespeare/input.txt.gz`. `dir`: the folder of datasets; by default, the environment
    variable SEQJAX_DATA. `length`: predictions per window. `tokenizer`: "character" or "byte".

    Raises:
      DataError: `dir` and SEQJAX_DATA are not set, the file does not exist, or its content has another sha256.

    From karpathy/char-rnn at 6f9487a, `data/tinyshakespeare/input.txt`, gzipped. Licence: MIT.
    """

    dir: str | None = None

    def __post_init__(self):
        super().__post_init__()
        path = _files.dataset(self.dir, "tinyshakespeare") / "input.txt.gz"
        digest = hashlib.sha256(_files.read_bytes(path)).hexdigest()
        if digest != SHA256:
            raise DataError(
                f"{path}: the content has sha256 {digest}, wanted {SHA256}: fetch data/tinyshakespeare/input.txt "
                f"of karpathy/char-rnn at 6f9487a again, and gzip it."
            )
        text = _files.read_text(path)
        self.cut([text.encode()], {"train": len(text) * 9 // 10, "validation": len(text)}, str(path))


Source = TinyShakespeare
