"""Tokens that are words, or parts of words: what is between words is lost."""

import collections
import dataclasses
import itertools
import re
from collections.abc import Iterable

import numpy as np

from seqjax.tokenizers._base import Encoding, Tokenizer, encoded


@dataclasses.dataclass(kw_only=True)
class Wordwise(Tokenizer):
    """A tokenizer that finds words with `pattern`, and gives each word its ids with `spell`."""

    pattern = re.compile("")

    def spell(self, word: str) -> tuple[tuple[int, int, int], ...]:
        """(id, begin, end) of each token of a word."""
        raise NotImplementedError

    def counts(self, texts: Iterable[str]) -> collections.Counter:
        """How often each word occurs."""
        found = collections.Counter()
        for text in texts:
            found.update(self.pattern.findall(text))
        return found

    def encode(self, text, where="this text"):
        encoded(text, "utf-8", where)
        words = map(self.spell, self.pattern.findall(text))
        return np.array([token[0] for token in itertools.chain.from_iterable(words)], np.int32)

    def align(self, text, where="this text"):
        encoded(text, "utf-8", where)
        found = [
            (i, match.start() + begin, match.start() + end)
            for match in self.pattern.finditer(text)
            for i, begin, end in self.spell(match[0])
        ]
        ids_L3 = np.array(found, np.int64).reshape(-1, 3)
        return Encoding(ids_L3[:, 0].astype(np.int32), ids_L3[:, 1:])
