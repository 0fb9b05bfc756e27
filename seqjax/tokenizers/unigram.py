"""The unigram language model of sentencepiece."""

import base64
import dataclasses
import io
import re
from typing import Annotated

import numpy as np

from seqjax import lookup
from seqjax.tokenizers._base import SPECIAL, check_size
from seqjax.tokenizers._bytes import Bytewise
from seqjax.types import DataError, Range

FIRST = len(SPECIAL)  # the id of byte 0
SPACE = "\u2581"  # stands for a space in the pieces of sentencepiece
LONGEST = 2**12  # characters of a text that are read as one sentence in training


@dataclasses.dataclass(kw_only=True)
class Unigram(Bytewise):
    """Unigram: the pieces that make the text likeliest if each is drawn by itself, by sentencepiece.

        p(x) = max over pieces x_1 ... x_n that join to x of p(x_1) ... p(x_n)

    It encodes every text, and gives it back unchanged: nothing is normalised, and rare characters are spelt in bytes.
    Ids 0 to 5 are the special tokens, then come the 256 bytes, then the pieces, the likeliest first. A space belongs
    to the word after it. Training runs in one thread, because its result depends on their number. Needs the extra
    `text`.

    `vocabulary`: the number of ids.

    Raises:
      DataError: the training split has not enough text for `vocabulary`, or too many characters.

    Kudo 2018, arXiv:1804.10959; Kudo and Richardson 2018, arXiv:1808.06226.
    """

    vocabulary: Annotated[int, Range(least=FIRST + 257)] = 4096

    def fit(self, texts):
        model = io.BytesIO()
        try:
            _package().SentencePieceTrainer.train(
                sentence_iterator=_sentences(texts),
                model_writer=model,
                model_type="unigram",
                vocab_size=self.vocabulary,
                hard_vocab_limit=False,  # it is checked below
                byte_fallback=True,
                normalization_rule_name="identity",
                add_dummy_prefix=False,
                remove_extra_whitespaces=False,
                allow_whitespace_only_pieces=True,
                max_sentence_length=4 * LONGEST,
                num_threads=1,
                minloglevel=2,
                **{f"{name}_id": SPECIAL[name] for name in ("pad", "unk", "bos", "eos")},
                control_symbols=["<mask>", "<sep>"],
            )
        except RuntimeError as error:
            reason = str(error).rpartition("] ")[2] or "the training split has no text"
            raise DataError(f"data.tokenizer.vocabulary={self.vocabulary}: sentencepiece says: {reason}") from error
        check_size(_processor(model.getvalue()).get_piece_size(), self.vocabulary)
        return base64.b64encode(model.getvalue()).decode()

    def open(self, state):
        self._inner = _processor(base64.b64decode(state))
        pieces = [self._inner.id_to_piece(i) for i in range(FIRST + 256, self._inner.get_piece_size())]
        self.keep([bytes([byte]) for byte in range(256)] + [piece.replace(SPACE, " ").encode() for piece in pieces])

    def ids(self, text):
        ids = []
        for part in re.split(f"({SPACE})", text):  # in the text itself, this character is spelt in bytes
            ids += [FIRST + byte for byte in part.encode()] if part == SPACE else self._inner.encode(part)
        return np.array(ids, np.int32)


def _sentences(texts):
    for text in texts:
        for line in text.split("\n"):
            yield from (line[i : i + LONGEST] for i in range(0, len(line), LONGEST))


def _processor(model: bytes):
    return _package().SentencePieceProcessor(model_proto=model)


def _package():
    return lookup.require("sentencepiece", "text", "data.tokenizer.name='unigram'")


Tokenizer = Unigram
