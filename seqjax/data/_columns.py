"""Files of columns, one word a line and a blank line after each sentence: CoNLL and CoNLL-U."""

from pathlib import Path

from seqjax.data import _files
from seqjax.data._words import Sentence
from seqjax.types import DataError

CONLLU = (".conllu", ".conllu.gz")
DOCUMENT = "-DOCSTART-"  # the only word of a line that begins a document


def sentences(file: Path, word: int, tag: int) -> list[Sentence]:
    """The sentences of a file, from its columns `word` and `tag`, counted from 0, or from the end with -1.

    Columns are separated by tabs, if the line has one, or else by white space. In a file of CoNLL-U, comments, rows of
    multi-word tokens (ID 3-4) and empty nodes (ID 3.1) are skipped.

    Raises:
      DataError: with path and line: no such column, lines with other numbers of columns, a cell without content; or
        the file has no sentence.
    """
    conllu, found = file.name.lower().endswith(CONLLU), []
    count, of = (10, "the 10 of CoNLL-U") if conllu else (None, "")
    current = Sentence(str(file), [], [], [])
    for number, line in enumerate(_files.read_text(file).split("\n"), start=1):
        where = f"{file}, line {number}"
        if not line.strip() or line.startswith(DOCUMENT):
            if current.words:
                found.append(current)
                current = Sentence(str(file), [], [], [])
            continue
        if conllu and line.startswith("#"):
            continue
        cells = line.rstrip("\r").split("\t") if "\t" in line else line.split()
        if count is None:
            count, of = len(cells), f"{len(cells)} as in line {number}"
            if max(word, tag) >= count or min(word, tag) < -count or word % count == tag % count:
                raise DataError(f"{where}: got {count} columns, wanted words in {word} and tags in {tag}: name others.")
        if len(cells) != count:
            raise DataError(f"{where}: got {len(cells)} columns, wanted {of}: correct the line.")
        if conllu and ("-" in cells[0] or "." in cells[0]):
            continue
        for column, what in ((word, "word"), (tag, "tag")):
            if not cells[column].strip():
                raise DataError(f"{where}: the {what} is empty: fill it in or delete the line.")
        if conllu and cells[tag] == "_":
            raise DataError(f"{where}: the word {cells[word]!r} has no tag in column {tag}: add it.")
        current.places.append(f"line {number}")
        current.words.append(cells[word])
        current.tags.append(cells[tag])
    if current.words:
        found.append(current)
    if not found:
        raise DataError(f"{file} has no sentence, wanted at least one.")
    return found
