"""UTF-8 bytes."""

import dataclasses

import numpy as np

from seqjax.tokenizers._base import Encoding, Tokenizer, encoded
from seqjax.tokenizers._bytes import spans


@dataclasses.dataclass(kw_only=True)
class Byte(Tokenizer):
    """Byte: UTF-8 bytes as ids 0 ... 255; they can encode every text.

        "é!"  ->  195 169 33

    It learns nothing and has no special tokens.
    """

    unit = "byte"
    learnt = False
    exact = True
    special = {}
    size = 256

    def fit(self, texts):
        return None

    def open(self, state):
        pass

    def encode(self, text, where="this text"):
        return np.frombuffer(encoded(text, "utf-8", where), np.uint8).astype(np.int32)

    def align(self, text, where="this text"):
        ids_L = self.encode(text, where)
        return Encoding(ids_L, spans(ids_L, np.ones(len(ids_L), np.int64)))

    def text(self, ids):
        # A window may begin or end inside a character.
        return np.asarray(ids, np.uint8).tobytes().decode(errors="replace")


Tokenizer = Byte
