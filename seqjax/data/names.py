"""Surnames by language."""

import dataclasses

from seqjax.data import _files
from seqjax.data._stored import Stored
from seqjax.data._tokens import unlearnt
from seqjax.tokenizers.character import Character
from seqjax.types import DataError


@dataclasses.dataclass(kw_only=True)
class Names(Stored):
    """Names: tell from which of 18 languages a surname is, character by character.

        "Smith"  ->  tokens 22 42 38 49 37, label 4 (English)

    There are 18,012 names: 14,396 train, 1,807 validation, 1,809 test. A line that repeats an earlier line of its
    file is dropped; then, in each file, index mod 10 = 0 is test, 1 is validation, the rest is train. 52 % of the names
    are Russian, and 465 names are in more than one file, so no model reaches an accuracy of 100 %. Classes are the
    files, sorted by name; the alphabet is that of train, with one extra id for characters that train does not have.

    Reads `<dir>/names/*.txt`, one name per line. `dir`: the folder of datasets; by default, the environment variable
    SEQJAX_DATA.

    Raises:
      DataError: `dir` and SEQJAX_DATA are not set, the folder does not exist or has fewer than two .txt files, a line
        is empty, a file is invalid UTF-8, a split has no names.

    From spro/practical-pytorch at c520c52, `data/names`. Licence: MIT, © 2017 Sean Robertson.
    """

    dir: str | None = None

    def __post_init__(self):
        super().__post_init__()
        folder = _files.dataset(self.dir, "names")
        files = _files.matches(f"{folder}/*.txt")
        self.classes = tuple(file.stem for file in files)
        names = {"train": [], "validation": [], "test": []}
        labels = {split: [] for split in names}
        for label, file in enumerate(files):
            lines = [line.removesuffix("\r") for line in _files.read_text(file).removesuffix("\n").split("\n")]
            if "" in lines:
                raise DataError(f"{file}, line {lines.index('') + 1}: empty, wanted a name: delete the line.")
            for index, name in enumerate(dict.fromkeys(lines)):
                split = {0: "test", 1: "validation"}.get(index % 10, "train")
                names[split].append(name)
                labels[split].append(label)
        for split, found in names.items():
            if not found:
                raise DataError(f"{folder}: no name for split {split!r}, wanted a file with 3 names or more.")
        if len(files) == 1:
            raise DataError(f"{files[0]} is the only .txt in its folder: wanted two languages or more to tell apart.")
        self.codec = Character().train(names["train"])
        tokens = {split: [self.codec.encode(name) for name in found] for split, found in names.items()}
        self.notes = tuple(unlearnt(self.codec, tokens, names))
        self.keep("tokens", self.codec.size, tokens, labels, unit=self.codec.unit)


Source = Names
