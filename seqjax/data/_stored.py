"""Examples that are held in memory."""

import dataclasses

import numpy as np

from seqjax import spec
from seqjax.data._tokens import Textual


@dataclasses.dataclass(kw_only=True)
class Stored(Textual):
    """A finite list of examples per split, stored by `keep`. With labels, `classes` are the names of the classes."""

    classes = None  # not a field: the subclass reads it from its data

    def keep(self, field: str, size: int, arrays: dict[str, list], labels: dict[str, list] | None = None, **more):
        """Stores split -> arrays of the field "tokens" or "features", split -> class ids.

        `size`: the size of the vocabulary or the number of features; `more`: see `seqjax.spec.tokens`.
        """
        self._examples = {}
        for split, values in arrays.items():
            for value in values:
                value.flags.writeable = False  # an example holds this array, not a copy
            examples = [{field: value} for value in values]
            if labels is not None:
                examples = [e | {"label": np.int32(label)} for e, label in zip(examples, labels[split], strict=True)]
            self._examples[split] = examples
        longest = max(len(value) for values in arrays.values() for value in values)
        classes = None if labels is None else len(self.classes)
        self.spec = getattr(spec, field)(size, longest, classes=classes, splits=tuple(arrays), **more)
        self.count()

    def count(self):
        """Says in the spec how many examples of train have each class or label."""
        train = self._examples["train"]
        if "label" in self.spec.fields:
            counts_C = np.bincount([example["label"] for example in train], minlength=self.spec.classes)
        elif "labels" in self.spec.fields:
            counts_C = np.sum([example["labels"] for example in train], axis=0)
        else:
            return
        self.spec = dataclasses.replace(self.spec, counts=tuple(counts_C.tolist()))

    def attach(self, name: str, field: spec.Field, arrays: dict[str, list]):
        """Adds a field to all examples; `arrays`: split -> its value in each example."""
        lengths = self.spec.lengths
        if field.axis is not None and field.axis not in lengths:
            lengths = lengths | {field.axis: max(len(value) for values in arrays.values() for value in values)}
        for split, values in arrays.items():
            for example, value in zip(self._examples[split], values, strict=True):
                value.flags.writeable = False
                example[name] = value
        self.spec = dataclasses.replace(self.spec, fields=self.spec.fields | {name: field}, lengths=lengths)
        self.count()

    def mark(self, labels: dict[str, list[list[int]]] | None):
        """Attaches `labels`, split -> the class ids of each example, any number of them; None: there are none."""
        if labels is not None:
            C = len(self.classes)
            hot = {split: [np.isin(np.arange(C), ids) for ids in found] for split, found in labels.items()}
            self.attach("labels", spec.Field("bool", axis=None, shape=(C,)), hot)

    def size(self, split):
        return len(self._examples[split])

    def lengths(self, split):
        return np.array([self.spec.measured(example) for example in self._examples[split]], np.int64)

    def example(self, split, index):
        if not 0 <= index < self.size(split):
            raise IndexError(f"{split} has examples 0 ... {self.size(split) - 1}, got {index}.")
        return dict(self._examples[split][index])

    def baselines(self, split):
        """With labels: the accuracy of always giving the most frequent class of train."""
        if self.spec.classes is None:
            return {}
        labels = lambda name: np.array([example["label"] for example in self._examples[name]])
        return {"accuracy": {"majority class": float(np.mean(labels(split) == np.bincount(labels("train")).argmax()))}}
