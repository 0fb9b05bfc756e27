"""Windows that slide over running text."""

import dataclasses

import numpy as np

from seqjax.data import _checks
from seqjax.data._batches import Batches
from seqjax.data._loader import Loader
from seqjax.data._source import Source
from seqjax.spec import Field, Spec
from seqjax.types import ConfigError


class Sliding(Batches):
    """The batches of one split as windows that slide by `stride` tokens, in reading order.

        t h i s i s i t     context 3, stride 2
        t[h i]              the predictions in brackets are `scored`, each token but the very first once;
          h i[s i]          those before them are only context
              s i[s i]      at least `context` - `stride` + 1 tokens, but where the text begins
                  s i[t]    the last window may be shorter

    A window has `context` predictions. With `stride` = `context` nothing is read twice, for models that carry a state.

    Raises:
      ConfigError: the source has no stream.
    """

    def __init__(self, source: Source, split: str, loader: Loader, *, context: int, stride: int):
        self.context, self.stride, self.stream = context, stride, source.stream(split)
        if self.stream is None:
            raise ConfigError(
                "evaluation with context needs running text, but the examples of this source are independent of each "
                "other: remove the evaluator, or choose a source such as data.name='text'."
            )
        loader = dataclasses.replace(loader, buckets=(context + 1,), places=None, random_lengths=0.0)
        super().__init__(source, split, loader)

    def _spec(self) -> Spec:
        spec = self.source.spec
        return dataclasses.replace(
            spec,
            fields=spec.fields | {"scored": Field("bool"), "reset": Field("bool")},
            lengths=spec.lengths | {"L": self.context + 1},
        )

    def _count(self) -> int:
        return -(-(len(self.stream["tokens"]) - 1) // self.stride)

    def _lengths(self) -> None:
        return None  # every window fits

    def _example(self, index: int) -> dict[str, np.ndarray]:
        first = index * self.stride  # the last token before those that are scored
        end = min(first + self.stride, len(self.stream["tokens"]) - 1)
        begin = max(min(first, first + self.stride - self.context), 0)
        example = {key: array[begin : end + 1] for key, array in self.stream.items()}
        example["scored"] = np.arange(begin, end + 1) > first
        example.setdefault("reset", np.zeros(end + 1 - begin, bool))
        _checks.shapes(example, self.spec, self._where(index))
        return example
