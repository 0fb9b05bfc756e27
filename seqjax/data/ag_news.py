"""News by topic."""

import dataclasses

from seqjax.data import _files
from seqjax.data._rows import cells
from seqjax.data._texts import Texts, number_of
from seqjax.data._tokens import Tokenized
from seqjax.tokenizers.word import Word

TRAIN, REPEATED = 4500, 809  # the number of records of train, and the one that is in test, too


@dataclasses.dataclass(kw_only=True)
class AGNews(Texts):
    """AG News: tell of which of 4 topics a piece of news is: World, Sports, Business, Sci/Tech.

    Title and description are one text, lower-cased. 4,499 train, 500 validation, 7,600 test: the whole official test,
    but a sample of 5,000 of the 120,000 records of train, so that numbers do not compare with those of papers. Records
    4,500 and on of the sample are validation; record 809, which is also in test, is left out.

    Reads `<dir>/ag_news/train_subset.csv.gz` (text, class from 0) and `test.csv.gz` (class from 1, title, description),
    both without a header. `dir`: the folder of datasets; by default, the environment variable SEQJAX_DATA. `tokenizer`:
    trained on train.

    Raises:
      DataError: `dir` and SEQJAX_DATA are not set, a file is missing or has a record of another form.

    Zhang et al. 2015, "Character-level convolutional networks for text classification", arXiv:1509.01626. From
    mhjabreel/CharCnn_Keras at 555590d and lst11111/bert-text-classification at d52bf84. Licence: research only.
    """

    dir: str | None = None
    tokenizer: Tokenized = Word

    def __post_init__(self):
        super().__post_init__()
        folder = _files.dataset(self.dir, "ag_news")
        self.classes = ("World", "Sports", "Business", "Sci/Tech")
        train, test = (_files.matches(f"{folder}/{name}.csv*")[0] for name in ("train_subset", "test"))
        seen = [(text, number_of(name, ("0", "1", "2", "3"), where)) for where, (text, name) in cells(train, 2, ",")]
        splits = {
            "train": seen[:REPEATED] + seen[REPEATED + 1 : TRAIN],
            "validation": seen[TRAIN:],
            "test": [
                (f"{title} {text}", number_of(name, ("1", "2", "3", "4"), where))
                for where, (name, title, text) in cells(test, 3, ",")
            ],
        }
        texts = {split: [text.lower() for text, _ in found] for split, found in splits.items()}
        self.keep_texts(texts, label={split: [number for _, number in found] for split, found in splits.items()})


Source = AGNews
