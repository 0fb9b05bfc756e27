"""Characters."""

import dataclasses
import sys

import numpy as np

from seqjax.tokenizers._base import Encoding, Tokenizer, encoded
from seqjax.types import DataError


@dataclasses.dataclass(kw_only=True)
class Character(Tokenizer):
    """Character: the characters of the texts, sorted, as ids.

        "to be"  ->  4 3 0 1 2

    If other texts may come, one extra id stands for all other characters, shown as U+FFFD. There are no special tokens.

    Raises:
      DataError: without that extra id, a character is not among those of the texts.
    """

    unit = "character"
    learnt = False
    exact = True
    special = {}
    _extra = True

    def train(self, texts, closed=False):
        self._extra = not closed
        return super().train(texts)

    def fit(self, texts):
        seen_P = np.zeros(sys.maxunicode + 1, bool)
        for text in texts:
            seen_P[_points(text, "this text")] = True
        return {"points": np.flatnonzero(seen_P).tolist(), "extra": self._extra}

    def open(self, state):
        self.points_V, self._extra = np.array(state["points"], "<u4"), state["extra"]
        self._shown_V = np.append(self.points_V, 0xFFFD) if self._extra else self.points_V
        self.size = len(self._shown_V)
        # Code point -> id. Unknown code points, also those above the highest known one, get the last id + 1.
        self._ids_P = np.full(self.points_V.max(initial=0) + 2, len(self.points_V), np.int32)
        self._ids_P[self.points_V] = np.arange(len(self.points_V))

    @property
    def unknown(self):
        return len(self.points_V) if self._extra else None

    def encode(self, text, where="this text"):
        ids_L = np.take(self._ids_P, _points(text, where), mode="clip")
        if not self._extra and (strange_L := ids_L == len(self.points_V)).any():
            first = int(np.argmax(strange_L))
            raise DataError(
                f"{where}: character {first} is {text[first]!r} (U+{ord(text[first]):04X}), which is not among "
                f"the {self.size} known characters: leave it out, or use data.tokenizer='byte'."
            )
        return ids_L

    def align(self, text, where="this text"):
        ids_L = self.encode(text, where)
        place_L = np.arange(len(ids_L))
        return Encoding(ids_L, np.stack([place_L, place_L + 1], axis=1))

    def text(self, ids):
        return self._shown_V[np.asarray(ids, np.int64)].astype("<u4").tobytes().decode("utf-32-le")


def _points(text: str, where: str) -> np.ndarray:
    """The code points of a text."""
    if text.isascii():
        return np.frombuffer(text.encode(), np.uint8)
    return np.frombuffer(encoded(text, "utf-32-le", where), "<u4")


Tokenizer = Character
