"""Which words have an id of their own, and what the others are read as."""

import collections
from collections.abc import Iterator

RARE = "\N{REPLACEMENT CHARACTER}"
SUFFIX = 4  # the most letters of a signature's suffix


def signatures(word: str) -> list[str]:
    """What shows of a word that nobody knows, from the most specific: `Re-do9` is `Xx9-:-do9`, `Xx9-:do9`, ... `Xx9-:`.

    `X`: all letters are capitals, `Xx`: the first character is one, `x`: none is, `xX`: others are; `9`: it has a
    digit, `-`: a hyphen. Then the suffix.
    """
    if word.isupper():
        kind = "X"
    elif word[:1].isupper():
        kind = "Xx"
    elif word.islower():
        kind = "x"
    else:
        kind = "xX" if any(map(str.isalpha, word)) else ""
    kind += "9" * any(map(str.isdigit, word)) + "-" * ("-" in word)
    lower = word.lower()
    return [f"{RARE}{kind}:{lower[len(lower) - n :]}" for n in range(min(SUFFIX, len(lower)), -1, -1)]


class Vocabulary:
    """Word -> id. Id 0 is a rare word.

    A word is read in lower case, and is rare if fewer than `min_count` words of train read the same. With `signed`, a
    word is read as it is written, else in lower case, else as one of its signatures: the first that is not rare.
    Signatures are counted over the words that are rare in both spellings.
    """

    def __init__(self, train: list[str], min_count: int, signed: bool):
        self._signed = signed
        frequent = lambda names: {name for name, n in collections.Counter(names).items() if n >= min_count}
        kept = frequent(name for word in train for name in set(self._spellings(word)))
        if signed:
            rare = [word for word in train if kept.isdisjoint(self._spellings(word))]
            kept |= frequent(name for word in rare for name in signatures(word))
        # What is frequent, but only in words that have something better, has no id, as nothing would train it.
        read = {next((name for name in self._names(word) if name in kept), RARE) for word in set(train)}
        self.words = (RARE, *sorted(read - {RARE}))
        self._ids = {word: i for i, word in enumerate(self.words)}

    def _spellings(self, word: str) -> tuple[str, ...]:
        return (word, word.lower()) if self._signed else (word.lower(),)

    def _names(self, word: str) -> Iterator[str]:
        """What a word may be read as, the best first."""
        yield from self._spellings(word)
        if self._signed:
            yield from signatures(word)

    def __getitem__(self, word: str) -> int:
        return next((self._ids[name] for name in self._names(word) if name in self._ids), 0)
