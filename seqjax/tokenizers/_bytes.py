"""Tokens that are strings of bytes, which follow each other without a gap."""

import dataclasses

import numpy as np

from seqjax.tokenizers._base import Encoding, Tokenizer, encoded


def spans(bytes_N: np.ndarray, length_L: np.ndarray) -> np.ndarray:
    """The characters (L, 2) that tokens stand for, which have these lengths in the bytes of a text in UTF-8."""
    begun_N = np.concatenate([[0], np.cumsum((bytes_N & 0xC0) != 0x80)])  # characters that begin before byte n
    end_L = np.cumsum(length_L)
    return np.stack([begun_N[end_L - length_L + 1] - 1, begun_N[end_L]], axis=1)


@dataclasses.dataclass(kw_only=True)
class Bytewise(Tokenizer):
    """A tokenizer whose tokens, joined, are the bytes of the text. A subclass calls `keep` in
    `open`, and writes `ids`.
    """

    exact = True
    unit = "subword"
    gap = " "

    def keep(self, parts: list[bytes]) -> None:
        """Takes the bytes of each id that is no special token, in the order of the ids."""
        self._shown = [f"<{name}>".encode() for name in self.special] + parts
        self._lengths_V = np.array([len(part) for part in self._shown])
        self.size = len(self._shown)

    def ids(self, text: str) -> np.ndarray:
        """The int32 ids of a text that has no lone surrogates."""
        raise NotImplementedError

    def encode(self, text, where="this text"):
        encoded(text, "utf-8", where)
        return self.ids(text)

    def align(self, text, where="this text"):
        bytes_N = np.frombuffer(encoded(text, "utf-8", where), np.uint8)
        ids_L = self.ids(text)
        return Encoding(ids_L, spans(bytes_N, self._lengths_V[ids_L]))

    def text(self, ids):
        # A window may begin or end inside a character.
        return b"".join([self._shown[i] for i in np.asarray(ids).tolist()]).decode(errors="replace")
