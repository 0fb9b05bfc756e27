"""What a data source yields: a table of fields, from which padding, masks, checks, crops and errors are derived.

tokens(65, 128)                                 ids, to predict the next one
tokens(65, 128, classes=2)                      a label per sequence
tokens(10, 12, source=(8, 10), scored=True)     a second sequence, which the first one answers
features(3, 100, classes=4)                     real vectors
Spec({"tokens": Field("ids", size=65), "tags": Field("ids", size=17)}, {"L": 128})      any other table
"""

import dataclasses
import functools
from typing import Literal, NamedTuple

from seqjax.types import Checked, Count, Natural

DTYPES = {"ids": "int32", "real": "float32", "bool": "bool", "place": "int32"}


@dataclasses.dataclass(frozen=True)
class Field(Checked):
    """One field of an example: an array of shape ([length of `axis`], *`shape`).

    kind: "ids" are ints in 0 ... size - 1; "real" are finite float32 numbers; "bool" is True or False; "place" is an
      index into the axis `into` of the same example: a crop moves it, and drops the example if it points to what was
      cut off.
    axis: the axis along which the field is a sequence, padded in a batch; None: one value per example.
    shape: of one value: () is a number, (5,) a vector of 5.
    names: of the ids, in order; empty: they have none.
    missing: NaN is allowed in a "real" field. It arrives as 0, and the batch has `<name>_observed` (True = given).
    """

    kind: Literal["ids", "real", "bool", "place"]
    size: Count | None = None
    axis: str | None = "L"
    shape: tuple[Count, ...] = ()
    missing: bool = False
    into: str | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self):
        super().__post_init__()
        for name, wanted, kind in (("size", self.kind == "ids", "ids"), ("into", self.kind == "place", "place")):
            if (getattr(self, name) is not None) != wanted:
                raise ValueError(f"{name}={getattr(self, name)!r} with kind={self.kind!r}: only {kind!r} has {name}.")
        if self.missing and self.kind != "real":
            raise ValueError(f"missing=True with kind={self.kind!r}: only 'real' numbers can be missing.")
        if self.names and len(self.names) != self.size:
            raise ValueError(f"names has {len(self.names)} entries with size={self.size}: name every id, or none.")
        object.__setattr__(self, "shape", tuple(self.shape))
        object.__setattr__(self, "names", tuple(self.names))


@dataclasses.dataclass(frozen=True)
class Spec(Checked):
    """The fields of an example, and the sizes that the task and the model get from the data.

    fields: name -> Field. An example has exactly these fields. The sequence that the model reads is `tokens` or
      `features`, on the axis "L"; `label`, `labels`, `source`, `scored` and `reset` are those that the tasks here know.
    lengths: axis -> the length of the longest example. A batch has a mask for each axis (see `mask_name`).
    end: the id of `tokens` that ends a sequence, if there is one. unit: what one token is (character, byte, word, ...).
    counts: how many examples of train have each class (`label`) or label (`labels`); None: the source does not say.
    """

    fields: dict[str, Field]
    lengths: dict[str, Count]
    splits: tuple[str, ...] = ("train",)
    end: Natural | None = None
    unit: str = "token"
    counts: tuple[Natural, ...] | None = None

    def __post_init__(self):
        super().__post_init__()
        if ("tokens" in self.fields) == ("features" in self.fields):
            raise ValueError(f"Spec needs either tokens or features, got {', '.join(self.fields) or 'no fields'}.")
        for name, field in self.fields.items():
            for axis in {field.axis, field.into} - {None} - self.lengths.keys():
                raise ValueError(f"{name} has the axis {axis!r}, but lengths has {', '.join(self.lengths) or 'none'}.")
            if name in ("tokens", "features") and field.axis != "L":
                raise ValueError(f"{name} has the axis {field.axis!r}, wanted 'L', the axis that the model reads.")
            if field.into is not None and field.into not in self.axes:
                raise ValueError(f"{name} points into the axis {field.into!r}, but no field is a sequence along it.")
        made = {"weight", *map(mask_name, self.axes), *(f"{n}_observed" for n, f in self.fields.items() if f.missing)}
        if taken := self.fields.keys() & made:
            raise ValueError(f"a batch has a {min(taken)!r} of its own: rename this field.")
        if self.end is not None and self.end >= (self.vocabulary or 0):
            raise ValueError(f"end={self.end}, wanted one of the {self.vocabulary or 0} ids of tokens.")
        object.__setattr__(self, "splits", tuple(self.splits))

    def __hash__(self):
        return hash((*self.fields.items(), *self.lengths.items(), self.splits, self.end, self.unit, self.counts))

    @functools.cached_property
    def axes(self) -> dict[str, str]:
        """Axis -> the first field that is a sequence along it; all of its fields have the same length in an example."""
        return {f.axis: name for name, f in reversed(self.fields.items()) if f.axis is not None}

    @functools.cached_property
    def columns(self) -> dict[str, "Column"]:
        """The arrays of a batch, except `weight` (B,)."""
        found = {name: Column(f.axis, f.shape, DTYPES[f.kind]) for name, f in self.fields.items()}
        seen = {f"{name}_observed": found[name]._replace(dtype="bool") for name, f in self.fields.items() if f.missing}
        return found | seen | {mask_name(axis): Column(axis, (), "bool") for axis in self.axes}

    @property
    def bucketed(self) -> tuple[str, ...]:
        """The axes that a bucket pads: that of the sequence that the model reads, and that of its source."""
        return tuple(axis for axis in ("L", "S") if axis in self.axes)

    def measured(self, example: dict) -> int:
        """The length of an example along the longest of these axes."""
        return max(len(example[self.axes[axis]]) for axis in self.bucketed)

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


class Column(NamedTuple):
    """An array of a batch: (B, length of `axis`, *`shape`), or (B, *`shape`) without an axis."""

    axis: str | None
    shape: tuple[int, ...]
    dtype: str


def mask_name(axis: str) -> str:
    """The name of an axis's mask in a batch: `mask` (B, L) for L, `mask_S` (B, S) for S."""
    return "mask" if axis == "L" else f"mask_{axis}"


def tokens(vocabulary: int, length: int = 1, **more) -> Spec:
    """Examples of token ids in 0 ... vocabulary - 1, at most `length` of them.

    Options, in `more`:
      classes: the number of classes, of which each example has one (`label`).
      source: (vocabulary, length) of a second sequence, which the tokens answer (`source`, on the axis "S").
      scored: True if examples say which of their tokens count (`scored`); else all of them count.
      reset: True if examples say where documents begin (`reset`; the first token needs no mark).
      splits, end, unit, counts: as in `Spec`.
    """
    return _made({"tokens": Field("ids", size=vocabulary)}, length, **more)


def features(width: int, length: int = 1, **more) -> Spec:
    """Examples of at most `length` vectors of `width` real numbers; the options are those of `tokens`."""
    return _made({"features": Field("real", shape=(width,))}, length, **more)


def _made(fields, length, *, classes=None, source=None, scored=False, reset=False, **more) -> Spec:
    lengths = {"L": length}
    if classes is not None:
        fields["label"] = Field("ids", size=classes, axis=None)
    if source is not None:
        fields["source"], lengths["S"] = Field("ids", size=source[0], axis="S"), source[1]
    fields |= {name: Field("bool") for name, given in (("scored", scored), ("reset", reset)) if given}
    return Spec(fields, lengths, **more)
