"""Texts that are held in memory, with what is known of each."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from seqjax import lookup
from seqjax.data import _linear
from seqjax.data._stored import Stored
from seqjax.data._tokens import Measure, unlearnt
from seqjax.spec import Field
from seqjax.types import DataError


def number_of(label: str, names: Sequence[str], where: str) -> int:
    """The place of a label among the names of a data set."""
    if label not in names:
        raise DataError(
            f"{where}: got the label {label[:40]!r}, wanted one of {lookup.listed(names)}: copy the file again."
        )
    return names.index(label)


@dataclasses.dataclass(kw_only=True)
class Texts(Stored):
    """Texts with a label, a set of labels or none, and perhaps a second text, such as the premise of a hypothesis.

    Linear models of the words and of strings of characters are its baselines.
    """

    _texts = None  # not a field: split -> the texts, if they have labels

    def keep_texts(
        self,
        texts: dict[str, list[str]],
        *,
        label: dict[str, list[int]] | None = None,
        labels: dict[str, list[list[int]]] | None = None,
        sources: dict[str, list[str]] | None = None,
        wheres: dict[str, list[str]] | None = None,
    ):
        """Trains `self.tokenizer` on train, and stores the tokens; every argument has an entry for each split.

        Args:
          label: one class id per text. labels: any number of them. `self.classes` has their names.
          sources: the second text of each, with the same tokenizer. wheres: what an error calls each record.

        Raises:
          DataError: a text has no token.
        """
        second = sources or {}
        self.learn(self.tokenizer, train=lambda: itertools.chain(texts["train"], second.get("train", ())))
        wheres = wheres or {s: [f"record {i} of split {s!r}" for i in range(len(found))] for s, found in texts.items()}
        arrays = {split: self._encode(found, wheres[split]) for split, found in texts.items()}
        self.notes += tuple(unlearnt(self.codec, arrays, texts))
        self.tell({split: Measure.of(self.codec, texts[split], arrays[split]) for split in texts})
        self.keep("tokens", self.codec.size, arrays, label, unit=self.codec.unit)
        self.mark(labels)
        if sources is not None:
            read = {split: self._encode(found, wheres[split]) for split, found in sources.items()}
            self.attach("source", Field("ids", size=self.codec.size, axis="S"), read)
        if label is not None or labels is not None:  # else they would only take memory
            self._texts, self._sources = texts, second

    def _encode(self, texts: list[str], wheres: list[str]) -> list[np.ndarray]:
        """The ids of each text."""
        found = self.codec.encode_all(texts, wheres)
        for where, ids_L in zip(wheres, found, strict=True):
            if not len(ids_L):
                raise DataError(f"{where}: the text is only white space, which gives no token: delete the record.")
        return found

    def slow_baselines(self, split):
        if self._texts is None:
            return []
        name = "labels" if "labels" in self.spec.fields else "label"
        data = {
            s: _linear.Data(self._texts[s], self._sources.get(s), np.array([e[name] for e in self._examples[s]]))
            for s in {"train", "validation", split} & set(self.spec.splits)
        }
        return _linear.baselines(data, split)
