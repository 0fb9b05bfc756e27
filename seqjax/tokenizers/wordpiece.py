"""WordPiece."""

import dataclasses
import re
from typing import Annotated

from seqjax import lookup
from seqjax.tokenizers._base import SPECIAL, check_size
from seqjax.tokenizers._words import Wordwise
from seqjax.types import Count, Range

MORE = "##"  # begins a piece that continues a word; in a text, a sign is a word of its own
LONGEST = 100  # characters of a word; longer ones are unknown
KNOWN = 2**20  # words whose pieces are remembered


@dataclasses.dataclass(kw_only=True)
class WordPiece(Wordwise):
    """WordPiece: each word as the fewest pieces from the left, the longest first; a word that has none is unknown.

        "unlikely!"  ->  un ##like ##ly !

    Ids 0 to 5 are the special tokens, then come the pieces, sorted. White space is lost, and a decoded text has single
    spaces: to generate text, choose bpe or unigram. Needs the extra `text` to train.

    `vocabulary`: the number of ids. `min_count`: a pair of pieces that occurs less often in the training split is not
    merged.

    Raises:
      DataError: the training split has not enough text for `vocabulary`, or too many characters.

    Schuster and Nakajima 2012, "Japanese and Korean voice search", ICASSP; as in Devlin et al. 2019, arXiv:1810.04805,
    but neither lower-cased nor normalised.
    """

    vocabulary: Annotated[int, Range(least=len(SPECIAL) + 1)] = 4096
    min_count: Count = 2

    unit = "subword"
    pattern = re.compile(r"\w+|[^\w\s]")

    def fit(self, texts):
        package = lookup.require("tokenizers", "text", "data.tokenizer.name='wordpiece'")
        counts = self.counts(texts)
        made = package.Tokenizer(package.models.WordPiece(unk_token=" "))
        made.pre_tokenizer = package.pre_tokenizers.WhitespaceSplit()
        trainer = package.trainers.WordPieceTrainer(
            vocab_size=self.vocabulary - len(SPECIAL),
            min_frequency=self.min_count,
            continuing_subword_prefix=MORE,
            show_progress=False,
            # Else these get ids in a random order, and the trainer chooses by it between pairs of equal frequency.
            special_tokens=[MORE + letter for letter in sorted({letter for word in counts for letter in word[1:]})],
        )
        made.train_from_iterator((" ".join([word] * n) for word, n in counts.items()), trainer)
        pieces = sorted(made.get_vocab())
        check_size(len(SPECIAL) + len(pieces), self.vocabulary)
        return {"pieces": pieces}

    def open(self, state):
        self._ids = {piece: i for i, piece in enumerate(state["pieces"], start=len(SPECIAL))}
        self._shown = [*(f"<{name}>" for name in self.special), *state["pieces"]]
        self.size = len(self._shown)
        self._known = {}

    def spell(self, word):
        if word not in self._known:
            if len(self._known) == KNOWN:
                self._known.clear()
            self._known[word] = tuple(self._pieces(word)) or ((SPECIAL["unk"], 0, len(word)),)
        return self._known[word]

    def _pieces(self, word: str) -> list[tuple[int, int, int]]:
        """The pieces of a word; none if a part of it has no piece."""
        found, begin = [], 0
        while begin < len(word) <= LONGEST:
            more = MORE if begin else ""
            ends = range(len(word), begin, -1)
            end = next((end for end in ends if more + word[begin:end] in self._ids), None)
            if end is None:
                return []
            found.append((self._ids[more + word[begin:end]], begin, end))
            begin = end
        return found

    def text(self, ids):
        return " ".join(self._shown[i] for i in ids).replace(f" {MORE}", "").removeprefix(MORE)


Tokenizer = WordPiece
