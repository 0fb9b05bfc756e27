"""Checks that the examples of a source are what its spec promises."""

from collections.abc import Callable

import numpy as np

from seqjax import lookup
from seqjax.data import _files
from seqjax.data._padding import nbytes
from seqjax.spec import Field, Spec
from seqjax.types import ConfigError, DataError

ORDER = 40  # bytes per example of a split that the order of an epoch takes
OVERHEAD = 500  # bytes of Python objects per example, at least, in addition to its numbers
KINDS = {"ids": ("iu", "integers"), "place": ("iu", "integers"), "real": ("biuf", "numbers"), "bool": ("b", "bool")}


def check_memory(spec: Spec, loader, length: int, *, batches: int, rows: int) -> None:
    """Checks that `batches` batches, each of `rows` rows padded to `length`, fit into half the memory.

    Raises:
      ConfigError: they do not. No array was made.
    """
    example = nbytes(spec, spec.lengths, rows)  # the examples of one batch are read whole, then cut
    padded = batches * (nbytes(spec, spec.lengths | {"L": length}, rows) + OVERHEAD * rows)
    if (need := max(example, padded)) > (most := _files.memory() // 2):
        held, long = (f"{batches:,} batches are", length) if padded >= example else ("1 batch is", spec.length)
        raise ConfigError(
            f"loader.batch_size={loader.batch_size} rows of {long:,} tokens take {need:,} bytes ({held} held at once), "
            f"wanted at most half of what this machine has, {most:,}: lower loader.batch_size or data.length, or "
            "loader.prefetch; or set loader.buckets, the lengths to pad to, and loader.too_long for longer examples."
        )


def order(split: str, examples: int) -> None:
    """Checks that the order of the examples fits into half the memory.

    Raises:
      DataError: it does not. No array was made.
    """
    if ORDER * examples > (most := _files.memory() // 2):
        raise DataError(
            f"split {split!r} has {examples:,} examples, and their order takes {ORDER * examples:,} bytes, wanted at "
            f"most half the memory, {most:,}: use fewer examples."
        )


def names(example: dict, spec: Spec, where: str) -> None:
    """Checks that an example has exactly the fields of its spec."""
    if example.keys() == spec.fields.keys():
        return
    for name in spec.fields:
        if name not in example:
            raise DataError(
                f"{where} has {lookup.listed(example) or 'no fields'}, but its spec promises {name!r}: give every "
                "example this field, or remove it from spec.fields."
            )
    name = next(name for name in example if name not in spec.fields)
    raise DataError(f"{where} has a field {name!r} that its spec does not name: add it to spec.fields.")


def shapes(example: dict[str, np.ndarray], spec: Spec, where: str) -> None:
    """Checks the shapes of an example: fields along the same axis have the same length."""
    for name, field in spec.fields.items():
        shape, wanted, first = example[name].shape, field.shape, spec.axes.get(field.axis, name)
        if field.axis is not None:
            along = example[first].shape
            wanted = (along[0] if along else field.axis, *wanted)
        if shape != wanted:
            like = "" if first == name else f", as long as {first}"
            raise DataError(f"{where}: {name} has shape {_listed(shape)}, wanted {_listed(wanted)}{like}.")
    for axis, name in spec.axes.items():
        if axis != "L" and len(example[name]) > spec.lengths[axis]:
            raise DataError(
                f"{where}: {name} has length {len(example[name])}, its spec promises {spec.lengths[axis]} at most: "
                f"raise spec.lengths[{axis!r}], or cut it."
            )


def values(examples: list[dict], indices: np.ndarray, spec: Spec, where: Callable[[int], str]) -> None:
    """Checks dtypes and values: those of all examples at once, or one by one to name a wrong one."""
    for name, field in spec.fields.items():
        arrays, (kinds, wanted) = [example[name] for example in examples], KINDS[field.kind]
        for index, array in zip(indices, arrays, strict=True):
            if array.dtype.kind not in kinds:
                raise DataError(f"{where(int(index))}: {name} is {array.dtype}, wanted {wanted}.")
        if field.kind == "bool" or not arrays:
            continue
        bounds = [field.size] * len(examples)
        if field.into is not None:
            bounds = [len(example[spec.axes[field.into]]) for example in examples]
        every = bounds[0] if field.into is None else np.repeat(bounds, [array.size for array in arrays])
        if _right(np.concatenate(arrays, axis=None), field, every).all():
            continue
        bad = next(i for i, array in enumerate(arrays) if not _right(array, field, bounds[i]).all())
        place = np.argwhere(~_right(arrays[bad], field, bounds[bad]))[0]
        raise DataError(
            f"{where(int(indices[bad]))}: {name}{place.tolist() if arrays[bad].ndim else ''} is "
            f"{arrays[bad][tuple(place)]}, wanted {_wanted(field, bounds[bad])}."
        )


def _right(values: np.ndarray, field: Field, bound) -> np.ndarray:
    """Which values are ids or places in 0 ... bound - 1, or finite float32 numbers."""
    if field.kind != "real":
        return (values >= 0) & (values < bound)
    with np.errstate(over="ignore"):
        float32 = values.astype(np.float32, copy=False)
    return np.isfinite(float32) | np.isnan(float32) if field.missing else np.isfinite(float32)


def _wanted(field: Field, bound: int | None) -> str:
    if field.kind == "real":
        return "a finite float32 number, or NaN" if field.missing else "a finite float32 number (or missing=True)"
    into = "" if field.into is None else f", a place in the axis {field.into!r} of this example"
    return f"0 to {bound - 1}{into}"


def _listed(shape: tuple) -> str:
    return f"[{', '.join(map(str, shape))}]"
