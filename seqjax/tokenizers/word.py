"""Words."""

import dataclasses
import re

from seqjax.tokenizers._base import SPECIAL
from seqjax.tokenizers._words import Wordwise
from seqjax.types import Count, DataError


@dataclasses.dataclass(kw_only=True)
class Word(Wordwise):
    """Word: the words of the training split, the most frequent first; every other word is unknown.

        "to be, or not to be\\n"  ->  to | be | , | or | not | to | be | \\n

    Ids 0 to 5 are the special tokens. A line end is a word of its own; other white space is lost, and a decoded text
    has single spaces.

    `min_count`: a word that occurs less often in the training split is unknown. `vocabulary`: at most so many ids;
    None: no limit. `punctuation`: each sign is a word of its own; with False, words are what stands between white
    space, as in texts that were cut into words before.

    Raises:
      DataError: no word is frequent enough.
    """

    unit = "word"

    min_count: Count = 2
    vocabulary: Count | None = None
    punctuation: bool = True

    def __post_init__(self):
        super().__post_init__()
        self.pattern = re.compile(r"\n|\w+|[^\w\s]" if self.punctuation else r"\n|\S+")

    def fit(self, texts):
        counts = self.counts(texts)
        frequent = sorted((-n, word) for word, n in counts.items() if n >= self.min_count)
        words = [word for _, word in frequent]
        if self.vocabulary is not None:
            words = words[: max(self.vocabulary - len(SPECIAL), 0)]
        if not words:
            raise DataError(
                f"data.tokenizer keeps none of the {len(counts):,} words of the training split: lower min_count, raise "
                "vocabulary, or give more text."
            )
        return {"words": words}

    def open(self, state):
        self._tokens = {word: ((i, 0, len(word)),) for i, word in enumerate(state["words"], start=len(SPECIAL))}
        self._shown = [*(f"<{name}>" for name in self.special), *state["words"]]
        self.size = len(self._shown)

    def spell(self, word):
        return self._tokens.get(word) or ((SPECIAL["unk"], 0, len(word)),)

    def text(self, ids):
        return " ".join(self._shown[i] for i in ids).replace(" \n", "\n").replace("\n ", "\n")


Tokenizer = Word
