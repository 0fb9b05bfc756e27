"""Comments by the emotions in them."""

import dataclasses

from seqjax.data import _files
from seqjax.data._rows import cells
from seqjax.data._texts import Texts, number_of
from seqjax.data._tokens import Tokenized
from seqjax.tokenizers.word import Word


@dataclasses.dataclass(kw_only=True)
class GoEmotions(Texts):
    """GoEmotions: tell which of 27 emotions a comment shows, one or several, or that it is neutral.

    43,410 train, 5,426 validation, 5,427 test, lower-cased. Labels are strongly imbalanced: of the comments of train
    14,219 are neutral, 77 show grief.

    Reads `<dir>/goemotions/labels.txt` and `{train,dev,test}.tsv.gz`: text, label numbers separated by commas, name.
    `dir`: the folder of datasets; by default, the environment variable SEQJAX_DATA. `tokenizer`: trained on train.

    Raises:
      DataError: `dir` and SEQJAX_DATA are not set, a file is missing or has a record of another form.

    Demszky et al. 2020, "GoEmotions: a dataset of fine-grained emotions", arXiv:2005.00547. From
    monologg/GoEmotions-pytorch at b75f9d3, `data/original`. Licence: Apache-2.0. Some comments are coarse.
    """

    dir: str | None = None
    tokenizer: Tokenized = Word

    def __post_init__(self):
        super().__post_init__()
        folder = _files.dataset(self.dir, "goemotions")
        self.classes = tuple(_files.read_text(folder / "labels.txt").split())
        known = [str(number) for number in range(len(self.classes))]
        texts, labels = {}, {}
        for split, name in {"train": "train", "validation": "dev", "test": "test"}.items():
            (file,) = _files.matches(f"{folder}/{name}.tsv*")[:1]
            rows = [*cells(file, 3, "\t", quotes=False)]
            texts[split] = [text.lower() for _, (text, *_) in rows]
            labels[split] = [[number_of(n, known, where) for n in ns.split(",")] for where, (_, ns, _) in rows]
        self.keep_texts(texts, labels=labels)


Source = GoEmotions
