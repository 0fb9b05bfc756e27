"""Questions to a bank by what they want."""

import dataclasses

from seqjax.data import _files
from seqjax.data._rows import cells
from seqjax.data._texts import Texts, number_of
from seqjax.data._tokens import Tokenized
from seqjax.tokenizers.word import Word


@dataclasses.dataclass(kw_only=True)
class Banking77(Texts):
    """Banking77: tell which of 77 intents a question to a bank has.

        "I am still waiting on my card?"  ->  label 12 (card_arrival)

    Of the 10,003 records of train, those with index mod 10 = 0 are validation; 3,080 test. Texts are lower-cased.

    Reads `<dir>/banking77/{train,test}.csv.gz` with the columns text and category. `dir`: the folder of datasets; by
    default, the environment variable SEQJAX_DATA. `tokenizer`: trained on train.

    Raises:
      DataError: `dir` and SEQJAX_DATA are not set, a file is missing or has a record of another form.

    Casanueva et al. 2020, "Efficient intent detection with dual sentence encoders", arXiv:2003.04807. From
    PolyAI-LDN/task-specific-datasets at 57ec275, `banking_data`. Licence: CC BY 4.0.
    """

    dir: str | None = None
    tokenizer: Tokenized = Word

    def __post_init__(self):
        super().__post_init__()
        folder = _files.dataset(self.dir, "banking77")
        # The first record of a file is its header.
        train, test = ([*cells(_files.matches(f"{folder}/{name}.csv*")[0], 2, ",")][1:] for name in ("train", "test"))
        self.classes = tuple(sorted({name for _, (_, name) in train}))
        splits = {"train": [row for i, row in enumerate(train) if i % 10], "validation": train[::10], "test": test}
        texts = {split: [text.lower() for _, (text, _) in found] for split, found in splits.items()}
        label = {s: [number_of(name, self.classes, where) for where, (_, name) in found] for s, found in splits.items()}
        self.keep_texts(texts, label=label)


Source = Banking77
