"""Sentences of film reviews by sentiment."""

import dataclasses

from seqjax.data import _files
from seqjax.data._rows import cells
from seqjax.data._texts import Texts, number_of
from seqjax.data._tokens import Tokenized
from seqjax.tokenizers.word import Word


@dataclasses.dataclass(kw_only=True)
class SST2(Texts):
    """SST-2: tell whether a sentence of a film review is positive.

        "a stirring , funny and finally transporting ..."  ->  label 1 (positive)

    6,920 train, 872 validation, 1,821 test: whole sentences only, lower-case, words separated by spaces.

    Reads `<dir>/sst2/{train,dev,test}.tsv.gz`: sentence, tab, 0 or 1. `dir`: the folder of datasets; by default, the
    environment variable SEQJAX_DATA. `tokenizer`: trained on train.

    Raises:
      DataError: `dir` and SEQJAX_DATA are not set, a file is missing or has a record of another form.

    Socher et al. 2013, "Recursive deep models for semantic compositionality over a sentiment treebank", EMNLP. From
    clairett/pytorch-sentiment-classification at 457ffd8, `data/SST2`. Licence: none stated.
    """

    dir: str | None = None
    tokenizer: Tokenized = Word

    def __post_init__(self):
        super().__post_init__()
        folder = _files.dataset(self.dir, "sst2")
        self.classes = ("negative", "positive")
        texts, label = {}, {}
        for split, name in {"train": "train", "validation": "dev", "test": "test"}.items():
            (file,) = _files.matches(f"{folder}/{name}.tsv*")[:1]
            rows = [*cells(file, 2, "\t", quotes=False)]
            texts[split] = [text for _, (text, _) in rows]
            label[split] = [number_of(name, ("0", "1"), where) for where, (_, name) in rows]
        self.keep_texts(texts, label=label)


Source = SST2
