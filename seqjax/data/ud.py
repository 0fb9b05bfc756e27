"""Words and their tags, from a treebank of Universal Dependencies."""

import dataclasses
from typing import Literal

from seqjax.data import _columns, _files
from seqjax.data._words import Tagged

COLUMNS = {"upos": 3, "xpos": 4}
SPLITS = {"train": "train", "validation": "dev", "test": "test"}


@dataclasses.dataclass(kw_only=True)
class UniversalDependencies(Tagged):
    """UD: the words of a sentence with a tag each, from a treebank of Universal Dependencies.

        Email  me   at   ...      tokens      0     17   22         ids of words, 0: a rare word
                                  characters  (L, word_length)      ids of characters, 0: none
        NOUN   PRON ADP  ...      tags        8     11   2
                                  unknown     True  .    .          the word, in this form, is not in train

    Reads `<dir>/<treebank>/*-ud-{train,dev,test}.conllu`, or `.conllu.gz`; dev is the split `validation`. Rows of
    multi-word tokens (ID 3-4) and empty nodes (ID 3.1) are skipped. Words are read in lower case. Words and characters
    that occur fewer than `min_count` times in train share one id. A word longer than `word_length` keeps its first and
    its last half.

    `dir`: the folder of datasets; by default, the environment variable SEQJAX_DATA. `column`: "upos" (the universal
    part of speech) or "xpos" (that of the language). `signatures`: for models that read no characters, `tokens` says
    more about capitals and rare words. A word is read as it is written if it occurs `min_count` times; else in lower
    case; else it shares an id with rare words of the same capitals, digits, hyphens and suffix, of four letters
    (Unfriended: `Xx:nded`) or as few as needed for `min_count` words.

    Raises:
      DataError: `dir` and SEQJAX_DATA are not set, a file does not exist or is not CoNLL-U, a tag is not in train.

    Nivre et al. 2020, "Universal Dependencies v2", LREC. The format: universaldependencies.org/format.html. Suffixes of
    rare words: Brants 2000, "TnT: a statistical part-of-speech tagger", ANLP.
    """

    dir: str | None = None
    treebank: str = "ud_english_ewt"
    column: Literal["upos", "xpos"] = "upos"

    def __post_init__(self):
        super().__post_init__()
        folder = _files.dataset(self.dir, self.treebank)
        files = {split: _files.matches(f"{folder}/*-ud-{name}.conllu*")[0] for split, name in SPLITS.items()}
        column = COLUMNS[self.column]
        self.keep_sentences({split: _columns.sentences(file, 1, column) for split, file in files.items()})


Source = UniversalDependencies
