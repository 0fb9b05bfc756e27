"""Byte-level byte-pair encoding."""

import dataclasses
import itertools
import json
import re
from typing import Annotated

import numpy as np

from seqjax import lookup
from seqjax.tokenizers._base import SPECIAL, check_size
from seqjax.tokenizers._bytes import Bytewise
from seqjax.types import Count, Range

FIRST = len(SPECIAL)  # the id of byte 0
# No token crosses from one of these to the next, so each is encoded once: a space and what follows up to the next white
# space, or white space. The separators U+001C to U+001F are white space for Python only.
WORDS = re.compile(r"[^\S\x1c-\x1f]+(?![\S\x1c-\x1f])| ?[\S\x1c-\x1f]+|[^\S\x1c-\x1f]+")
KNOWN, LONGEST = 2**18, 64  # how many of them are remembered, and up to which length


def _letters() -> list[str]:
    """The visible character by which the package tokenizers names each byte: itself, or one after U+0100."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in visible else next(others)) for byte in range(256)]


@dataclasses.dataclass(kw_only=True)
class Bpe(Bytewise):
    """BPE: byte-pair encoding of bytes: the most frequent pair of tokens becomes a token, again and again.

        "lower low"  ->  "low" "er" " low"

    It encodes every text, and gives it back unchanged. Ids 0 to 5 are the special tokens, then come the 256 bytes, then
    the merges in their order. A space belongs to the word after it; no token crosses from one word to the next, nor
    from letters to digits or signs. Needs the extra `text`.

    `vocabulary`: the number of ids. `min_count`: a pair that occurs less often in the training split is not merged.

    Raises:
      DataError: the training split has too few different pairs for `vocabulary`.

    Sennrich et al. 2016, arXiv:1508.07909; of bytes: Radford et al. 2019, "Language Models are Unsupervised Multitask
    Learners".
    """

    vocabulary: Annotated[int, Range(least=FIRST + 257)] = 4096
    min_count: Count = 2

    def fit(self, texts):
        package = _package()
        words = package.pre_tokenizers.ByteLevel
        made = package.Tokenizer(package.models.BPE())
        made.pre_tokenizer = words(add_prefix_space=False)
        trainer = package.trainers.BpeTrainer(
            vocab_size=self.vocabulary - FIRST,
            min_frequency=self.min_count,
            initial_alphabet=words.alphabet(),
            show_progress=False,
        )
        made.train_from_iterator(texts, trainer)
        model = json.loads(made.to_str())["model"]
        check_size(FIRST + len(model["vocab"]), self.vocabulary)
        ids = {letter: FIRST + byte for byte, letter in enumerate(_letters())}
        merges = []
        for left, right in model["merges"]:
            merges.append([ids[left], ids[right]])
            ids.setdefault(left + right, FIRST + len(ids))
        return {"merges": merges}

    def open(self, state):
        package = _package()
        letters = _letters()
        names, ids, pairs = list(letters), {letter: byte for byte, letter in enumerate(letters)}, []
        for left, right in state["merges"]:
            pairs.append((names[left - FIRST], names[right - FIRST]))
            if (joined := "".join(pairs[-1])) not in ids:  # two merges may give the same bytes
                ids[joined] = len(names)
                names.append(joined)
        self._inner = package.Tokenizer(package.models.BPE(vocab=ids, merges=pairs))
        self._inner.pre_tokenizer = package.pre_tokenizers.ByteLevel(add_prefix_space=False)
        self._known = {}  # word -> its ids
        byte_of = {letter: byte for byte, letter in enumerate(letters)}
        self.keep([bytes(byte_of[letter] for letter in name) for name in names])

    def ids(self, text):
        words, known = WORDS.findall(text), self._known
        if new := list(set(words) - known.keys()):
            if len(known) > KNOWN:
                known.clear()
                new = list(set(words))
            # The package knows no special tokens, so no text can have them.
            for word, found in zip(new, self._inner.encode_batch_fast(new, add_special_tokens=False), strict=True):
                known[word] = [FIRST + i for i in found.ids]
        ids_L = np.array(list(itertools.chain.from_iterable(map(known.__getitem__, words))), np.int32)
        for word in new:
            if len(word) > LONGEST:
                del known[word]
        return ids_L


def _package():
    return lookup.require("tokenizers", "text", "data.tokenizer.name='bpe'")


Tokenizer = Bpe
