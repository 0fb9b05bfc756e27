"""Words and their tags, from your own files."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from seqjax.data import _columns, _files
from seqjax.data._rows import rows
from seqjax.data._words import Sentence, Tagged, check
from seqjax.spans import Kind, Scheme, write
from seqjax.tokenizers._base import encoded
from seqjax.types import DataError, Part

LISTS = (".jsonl", ".jsonl.gz", ".parquet")  # files whose columns have names, and cells may be lists


@dataclasses.dataclass(kw_only=True)
class TaggedWords(Tagged):
    """Tagged: your own words with a tag each, from CoNLL and CoNLL-U files, or from columns of lists.

        Empire  B-location                     word_column=0, tag_column=-1       tokens 17 0 ...   tags 1 6 ...
        State   I-location

        {"w": ["go", "Rome"], "t": ["O", "B-location"]}     word_column="w", tag_column="t"

    `train`, `validation`, `test`: one path or glob each, which begins at `dir` if that is set. A file that ends in
    `.jsonl` or `.parquet` (or `.jsonl.gz`) has a sentence per record: name the columns that hold the list of words and
    the list of tags. Other files have a word per line, and a blank line after each sentence: the columns are numbers,
    counted from 0, or from the end with -1. In a `.conllu` file (or `.conllu.gz`) the words are in column 1, and their
    parts of speech in 3 and 4; comments, multi-word tokens and empty nodes are skipped.

    Tags of BIO, BIOES or BILOU are checked. `repair`: what is not valid is read as conlleval reads it, as in files of
    IOB1, and written anew. `scheme`: "bio", "bioes" or "bilou" writes the tags in another scheme. `tokenizer`: a
    tokenizer that is trained on train, such as "bpe": then the model reads pieces of words, and the first one has the
    tag; the others are not `scored`. None: words and their characters. `min_count`, `word_length` and
    `signatures` are those of the source `ud`.

    Raises:
      DataError: with path and line, or row: a missing file or column, invalid UTF-8, a line with another number of
        columns, another number of tags than words, an empty sentence, word or tag, a tag that train does not have, a
        tag that may not follow the one before it, one file in two splits.
    """

    train: str
    validation: str | None = None
    test: str | None = None
    dir: str | None = None
    word_column: int | str = 0
    tag_column: int | str = -1
    repair: bool = False
    scheme: Kind | None = None
    tokenizer: Annotated[Callable | str | None, Part("seqjax.tokenizers", "Tokenizer")] = None

    def __post_init__(self):
        super().__post_init__()
        patterns = {"train": self.train, "validation": self.validation, "test": self.test}
        patterns = {s: str(Path(self.dir or "") / p) if p is not None else None for s, p in patterns.items()}
        files = _files.splits(**patterns)
        sentences = {split: [s for file in found for s in self._read(file)] for split, found in files.items()}
        names = {tag for found in sentences.values() for sentence in found for tag in sentence.tags}
        self.keep_sentences(self._rewritten(sentences, Scheme.of(sorted(names))), self.tokenizer)

    def _read(self, file: Path) -> list[Sentence]:
        named = file.name.lower().endswith(LISTS)
        for option in ("word_column", "tag_column"):
            if isinstance(column := getattr(self, option), str) != named:
                wanted = "the name of a column" if named else "the number of a column, from 0"
                raise DataError(f"{file}: got data.{option}={column!r}, wanted {wanted}.")
        if not named:
            return _columns.sentences(file, self.word_column, self.tag_column)
        return [self._sentence(where, row) for where, row in rows(file, [self.word_column, self.tag_column], {})]

    def _sentence(self, where: str, row: dict) -> Sentence:
        lists = []
        for column in (self.word_column, self.tag_column):
            if not (isinstance(row[column], list) and row[column] and all(isinstance(w, str) for w in row[column])):
                raise DataError(f"{where}, column {column!r}: got {str(row[column])[:40]!r}, wanted a list of strings.")
            for i, cell in enumerate(row[column]):
                if not cell.strip():
                    raise DataError(f"{where}, column {column!r}, place {i}: the string is empty: fill it in.")
                encoded(cell, "utf-8", f"{where}, column {column!r}, place {i}")
            lists.append(row[column])
        words, tags = lists
        if len(words) != len(tags):
            raise DataError(f"{where}: got {len(words)} words and {len(tags)} tags, wanted a tag for each word.")
        return Sentence(where, [f"word {i}" for i in range(len(words))], words, tags)

    def _rewritten(self, sentences: dict[str, list[Sentence]], scheme: Scheme | None) -> dict[str, list[Sentence]]:
        """The same with tags as `repair` and `scheme` ask for."""
        if self.scheme is None and not self.repair:
            return sentences
        if scheme is None:
            option = "repair=True" if self.repair else f"scheme={self.scheme!r}"
            raise DataError(f"data.{option} needs tags of BIO, BIOES or BILOU, these are others: remove it.")
        number, mode = {tag: i for i, tag in enumerate(scheme.names)}, "lenient" if self.repair else "strict"

        def rewritten(sentence: Sentence) -> Sentence:
            if not self.repair:
                check(scheme, number, sentence)
            ids = [number[tag] for tag in sentence.tags]
            return sentence._replace(tags=write(scheme.spans(ids, mode), len(ids), self.scheme or scheme.kind))

        return {split: [rewritten(sentence) for sentence in found] for split, found in sentences.items()}


Source = TaggedWords
