"""One long text cut into windows."""

import copy
import dataclasses
import functools
import lzma
import math
from collections.abc import Iterator, Sequence

import numpy as np

from seqjax import spec
from seqjax.data import _counting, _files
from seqjax.data._random import generator
from seqjax.data._source import Baseline
from seqjax.data._tokens import SPAN, SPELT, Measure, Textual, Tokenized, counts, unlearnt, widths
from seqjax.tokenizers.character import Character
from seqjax.types import Count, DataError

COMPRESSED = 4_000_000  # the most tokens that are compressed for a baseline


@dataclasses.dataclass(kw_only=True)
class TextWindows(Textual):
    """One long text in contiguous splits, cut into windows of `length + 1` tokens with `length` predictions.

        train         t o b e o r n o t      endless; window i begins at a random place, a pure function of i
                        [o b e o]
                            [o r n o]
        validation    t h a t i s            finite; neighbours share one token, so every token except the very
                     [t h a t]               first is predicted exactly once; the last window may be shorter
                            [t i s]

    If the text has several documents, `reset` marks the first token of each.

    `length`: predictions per window. `tokenizer`: "character" (the alphabet is that of the whole text, every split),
    "byte" (UTF-8), or one that is trained on the training split, such as "bpe". Metrics are in bits per token, and in
    bits per character, which do not depend on the tokenizer: `span` says how many characters each token adds.

    Raises:
      DataError: a split is too short for one prediction, or train is shorter than one window.
    """

    length: Count = 256
    tokenizer: Tokenized = Character

    def cut(self, texts: Sequence[bytes], ends: dict[str, int], where: str):
        """Cuts documents in UTF-8 into splits; `ends`: split -> the number of characters up to its end, in order.

        The last split ends with the text. Memory holds the documents, and each token once in the narrowest dtype.
        """
        self.learn(
            self.tokenizer,
            train=lambda: (piece for split, _, piece in _parts(texts, ends) if split == "train"),
            every=lambda: (piece for _, _, piece in _parts(texts, ends)),
        )
        *_, last = ends.values()
        unit = self.codec.unit
        most = last if unit == "character" else sum(map(len, texts))  # the system gives pages only to what is written
        ids_N = np.empty(most, np.min_scalar_type(self.codec.size - 1))
        width_N = None if unit in SPELT else np.empty(most, np.uint16)
        at, before, begins, places, measures = 0, None, [], dict.fromkeys(ends, 0), {}
        for split, document, piece in _parts(texts, ends):
            if document != before:
                begins.append(at)
                before = document
            ids_L, width_L = self._read(piece, where)
            if width_N is not None:
                width_N[at : at + len(ids_L)] = width_L
                measures.setdefault(split, Measure()).add(self.codec, piece, ids_L)
            ids_N[at : at + len(ids_L)] = ids_L
            at += len(ids_L)
            places[split] = at
        ids_N.flags.writeable = False  # streams are slices of it
        self._ids, self._widths, self._begins, begin, several = {}, {}, {}, 0, len(texts) > 1
        for split, end in places.items():
            least = self.length + 1 if split == "train" else 2
            if end - begin < least:
                fix = "lower data.length" if split == "train" else "give this split a larger share"
                raise DataError(
                    f"{where}: split {split!r} has {max(end - begin, 0)} {unit}s out of a text of {last} "
                    f"characters, wanted at least {least}: use a longer text, or {fix}."
                )
            self._ids[split] = ids_N[begin:end]
            if width_N is not None:
                self._widths[split] = width_N[begin:end]
            if several:
                self._begins[split] = np.array([0, *(b - begin for b in begins if begin < b < end)])
            begin = end
        if self.codec.size == 1:
            raise DataError(f"{where} repeats one single character, so there is nothing to predict: use another text.")
        how = dict(reset=several, unit=unit, splits=tuple(ends))
        self.spec = spec.tokens(self.codec.size, self.length + 1, **how)
        if self._widths:
            self.spec = dataclasses.replace(self.spec, fields=self.spec.fields | {"span": SPAN})
        self.notes = tuple(unlearnt(self.codec, {split: [ids_L] for split, ids_L in self._ids.items()}))
        self.tell(measures)

    def _read(self, piece: str, where: str) -> tuple[np.ndarray, np.ndarray | None]:
        """The ids of a part of a text, and how many characters each adds; None if the tokenizer says it."""
        if self.codec.unit in SPELT:
            return self.codec.encode(piece, where), None
        ids_L, spans_L2, _ = self.codec.align(piece, where)
        return ids_L, widths(spans_L2, where)

    def with_file(self, path: str) -> "TextWindows":
        """The same source with one more split, "file": a UTF-8 file, read by the same tokenizer.

        Raises:
          DataError: the file is missing, empty or invalid UTF-8, has a character without a token, or only one token.
        """
        where, other = str(_files.absolute(path)), copy.copy(self)
        ids, width = zip(*(self._read(piece, where) for piece in _files.pieces(_files.read_utf8(path))), strict=True)
        ids_L = np.concatenate(ids).astype(self._ids["train"].dtype)
        if len(ids_L) < 2:
            raise DataError(f"{where} has {len(ids_L)} token, which leaves nothing to predict: wanted at least 2.")
        other._ids = self._ids | {"file": ids_L}
        other._widths = self._widths | ({"file": np.concatenate(width)} if self._widths else {})
        other._begins = self._begins | ({"file": np.zeros(1, int)} if self._begins else {})
        other.spec = dataclasses.replace(self.spec, splits=(*self.spec.splits, "file"))
        return other

    def _window(self, split: str, begin: int, end: int) -> dict[str, np.ndarray]:
        found = {"tokens": self._ids[split][begin:end]}
        if self._widths:
            found["span"] = self._widths[split][begin:end]
        if split in self._begins:
            begins = self._begins[split]
            found["reset"] = np.zeros(len(found["tokens"]), bool)
            found["reset"][begins[slice(*np.searchsorted(begins, [begin, end]))] - begin] = True
        return found

    def size(self, split):
        return None if split == "train" else -(-(len(self._ids[split]) - 1) // self.length)

    def example(self, split, index):
        size = self.size(split)
        if size is None:
            begin = int(generator(0, split, index).integers(len(self._ids[split]) - self.length))
        elif 0 <= index < size:
            begin = index * self.length
        else:
            raise IndexError(f"{split} has windows 0 ... {size - 1}, got {index}.")
        found = self._window(split, begin, begin + self.length + 1)
        dtypes = {"tokens": np.int32, "span": np.float32, "reset": bool}
        return {name: value.astype(dtypes[name]) for name, value in found.items()}

    def stream(self, split):
        return self._window(split, 0, len(self._ids[split]))

    def lengths(self, split):
        # Every window except the last is full.
        length_B = np.full(self.size(split), self.length + 1)
        length_B[-1] = len(self._ids[split]) - (len(length_B) - 1) * self.length
        return length_B

    def baselines(self, split):
        """Bits per token of the split's own token frequencies, and of `xz -9e` on only its UTF-8 bytes.

        Both per character, too, if tokens are neither characters nor bytes. Compression takes seconds per million
        tokens: a split of more than four million is not compressed, nor is one whose text the tokens do not keep.
        """
        ids_L = self._ids[split]
        counts_V = counts(ids_L, self.codec.size)
        share_V = counts_V[counts_V > 0] / len(ids_L)
        found = {"unigram entropy": float(-np.sum(share_V * np.log2(share_V)))}
        if len(ids_L) <= COMPRESSED and self.codec.exact:
            packed = lzma.compress(self.decode(ids_L).encode(), preset=9 | lzma.PRESET_EXTREME)
            found["lzma"] = 8 * len(packed) / len(ids_L)
        found = {f"bits_per_{self.codec.unit}": found}
        if self._widths:
            per_token = self._widths[split].mean()
            (bits,) = found.values()
            found["bits_per_character"] = {name: float(value / per_token) for name, value in bits.items()}
        return found

    @functools.cached_property
    def _counted(self) -> _counting.Counted | None:
        splits = (self._text(split) for split in ("train", "validation"))
        return _counting.counted(*splits, self.codec.size, self.length)

    def _text(self, split: str) -> _counting.Text:
        return _counting.Text(self._ids[split], self._widths.get(split), self._begins.get(split, np.zeros(1, int)))

    def slow_baselines(self, split):
        """Modified Kneser-Ney with the context that is best on validation; not for a train split of millions of tokens.

        In windows like those that a model reads; for `full_context_...`, as one text.
        """
        if "validation" not in self.spec.splits or (best := self._counted) is None:
            return []
        metrics = {}
        for prefix, length in (("", self.length), ("full_context_", None)):
            nats_P, width_P = _counting.scores(best.table, self._text(split), length)
            bits = {f"bits_per_{self.codec.unit}": nats_P.mean() / math.log(2)}
            if width_P is not None:
                bits |= {"perplexity": math.exp(nats_P.mean())}
                bits |= {"bits_per_character": nats_P.sum() / math.log(2) / width_P.sum()}
            metrics |= {prefix + name: float(value) for name, value in bits.items()}
        name = f"Kneser-Ney, context {best.order}"
        return [Baseline(name, metrics, best.parameters, best.seconds)]


def _parts(texts: Sequence[bytes], ends: dict[str, int]) -> Iterator[tuple[str, int, str]]:
    """Yields (split, document, text) piece by piece; no piece crosses the end of a split."""
    character, (split, *later) = 0, ends
    for document, text in enumerate(texts):
        for piece in _files.pieces(text):
            while piece:
                while character == ends[split]:
                    split, *later = later
                now, piece = piece[: ends[split] - character], piece[ends[split] - character :]
                character += len(now)
                yield split, document, now
