"""What a data source yields: a table of fields, from which padding, masks, checks, crops and errors are derived.

tokens(65, 128)                                 ids, to predict the next one
tokens(65, 128, classes=2)                      a label per sequence
tokens(10, 12, source=(8, 10), scored=True)     a second sequence, which the first one answers
features(3, 100, classes=4)                     real vectors
"""

import dataclasses
from typing import Literal

from seqjax.types import Checked, Count, Natural


@dataclasses.dataclass(frozen=True)
class Field(Checked):
    """One field of an example: an array of shape ([length of `axis`], *`shape`).

    kind: "ids" are ints in 0 ... size - 1; "real" are finite float32 numbers; "bool" is True or False; "place" is an
      index into the axis `into`: a crop moves it, and drops the example if it points to what was cut off.
    axis: the axis along which the field is a sequence, padded in a batch; None: one value per example.
    missing: NaN is allowed in a "real" field. It arrives as 0, and the batch has `<name>_observed` (True = given).
    """

    kind: Literal["ids", "real", "bool", "place"]
    size: Count | None = None
    axis: str | None = "L"
    shape: tuple[Count, ...] = ()
    missing: bool = False
    into: str | None = None

    def __post_init__(self):
        super().__post_init__()
        for name, wanted, kind in (("size", self.kind == "ids", "ids"), ("into", self.kind == "place", "place")):
            if (getattr(self, name) is not None) != wanted:
                raise ValueError(f"{name}={getattr(self, name)!r} with kind={self.kind!r}: only {kind!r} has {name}.")
        if self.missing and self.kind != "real":
            raise ValueError(f"missing=True with kind={self.kind!r}: only 'real' numbers can be missing.")


@dataclasses.dataclass(frozen=True)
class Spec(Checked):
    """The fields of an example, and the sizes that the task and the model get from the data.

    fields: name -> Field. The sequence that the model reads is `tokens` or `features`, on the axis "L".
    lengths: axis -> the length of the longest example. A batch has a mask for each axis (see `mask_name`).
    end: the id of `tokens` that ends a sequence, if there is one. unit: what one token is (character, byte, word, ...).
    """

    fields: dict[str, Field]
    lengths: dict[str, Count]
    splits: tuple[str, ...] = ("train",)
    end: Natural | None = None
    unit: str = "token"

    def __post_init__(self):
        super().__post_init__()
        if ("tokens" in self.fields) == ("features" in self.fields):
            raise ValueError(f"Spec needs either tokens or features, got {', '.join(self.fields) or 'no fields'}.")
        for name, field in self.fields.items():
            for axis in {field.axis, field.into} - {None} - self.lengths.keys():
                raise ValueError(f"{name} has the axis {axis!r}, but lengths has {', '.join(self.lengths) or 'none'}.")

    def __hash__(self):
        return hash((*self.fields.items(), *self.lengths.items(), self.splits, self.end, self.unit))

    @property
    def vocabulary(self) -> int | None:
        """The number of ids of `tokens`."""
        return self._size("tokens")

    @property
    def features(self) -> int | None:
        """The number of features of a step."""
        return self.fields["features"].shape[-1] if "features" in self.fields else None

    @property
    def classes(self) -> int | None:
        """The number of ids of `label`."""
        return self._size("label")

    @property
    def length(self) -> int:
        """The length of the longest example."""
        return self.lengths["L"]

    @property
    def source_vocabulary(self) -> int | None:
        """The number of ids of `source`, the sequence that the example answers."""
        return self._size("source")

    @property
    def source_length(self) -> int | None:
        """The length of the longest source sequence."""
        return self.lengths.get("S")

    def _size(self, name: str) -> int | None:
        return self.fields[name].size if name in self.fields else None


def mask_name(axis: str) -> str:
    """The name of an axis's mask in a batch: `mask` (B, L) for L, `mask_S` (B, S) for S."""
    return "mask" if axis == "L" else f"mask_{axis}"


def tokens(vocabulary: int, length: int = 1, **more) -> Spec:
    """Token ids in 0 ... vocabulary - 1; see `_made` for `more`."""
    return _made({"tokens": Field("ids", size=vocabulary)}, length, **more)


def features(width: int, length: int = 1, **more) -> Spec:
    """Real vectors of `width` numbers; see `_made` for `more`."""
    return _made({"features": Field("real", shape=(width,))}, length, **more)


def _made(fields, length, *, classes=None, source=None, scored=False, reset=False, **more) -> Spec:
    """`classes`: of a label per sequence. `source`: (vocabulary, length) of a second sequence. `scored` and `reset`:
    whether examples say which tokens count, and where documents begin. `more`: `splits`, `end`, `unit`."""
    lengths = {"L": length}
    if classes is not None:
        fields["label"] = Field("ids", size=classes, axis=None)
    if source is not None:
        fields["source"], lengths["S"] = Field("ids", size=source[0], axis="S"), source[1]
    fields |= {name: Field("bool") for name, given in (("scored", scored), ("reset", reset)) if given}
    return Spec(fields, lengths, **more)
