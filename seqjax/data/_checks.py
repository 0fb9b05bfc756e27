"""Checks that the examples of a source are what its spec promises."""

import numpy as np

from seqjax import lookup
from seqjax.data import _files
from seqjax.spec import Spec
from seqjax.types import ConfigError, DataError

ORDER = 40  # bytes per example of a split that the order of an epoch takes


def sizes(spec: Spec, split: str, examples: int | None, batch: int, length: int) -> None:
    """Checks the sizes before any array is made: they must fit into memory.

    Raises:
      ConfigError: a batch takes more than a sixteenth of the memory.
      DataError: the order of the examples takes more than half the memory.
    """
    tokens, memory = length + (spec.source_length or 0), _files.memory()
    nbytes = 4 * batch * tokens * (spec.features or 1)
    if nbytes > (most := memory // 16):  # several batches are read ahead, each with masks and copies
        raise ConfigError(
            f"loader.batch_size={batch} rows of {tokens:,} tokens take {nbytes:,} bytes, wanted at most a sixteenth of "
            f"the memory, {most:,}: lower loader.batch_size or data.length; or set loader.buckets, the lengths to pad "
            "to, and loader.too_long for longer examples."
        )
    if examples is not None and ORDER * examples > (most := memory // 2):
        raise DataError(
            f"split {split!r} has {examples:,} examples, and their order takes {ORDER * examples:,} bytes, wanted at "
            f"most half the memory, {most:,}: use fewer examples."
        )


def shapes(example: dict, spec: Spec, where: str) -> None:
    """Checks the fields of an example and their shapes."""
    x = "features" if spec.vocabulary is None else "tokens"
    answers = spec.source_vocabulary is not None
    for field in [x] + ["label"] * (spec.classes is not None) + ["source"] * answers:
        if field not in example:
            raise DataError(f"{where} has {lookup.listed(example) or 'no fields'}, but its spec promises {field!r}.")
    if "source" in example and not answers:
        raise DataError(f"{where} has a source, but its spec has none: set source_vocabulary in the spec.")
    L, S = len(example[x]), np.size(example.get("source", ()))
    wanted = {"tokens": (L,), "features": (L, spec.features), "scored": (L,), "reset": (L,), "label": ()}
    for field, shape in {**wanted, "source": (S,)}.items():
        if field in example and np.shape(example[field]) != shape:
            raise DataError(f"{where}: {field} has shape {list(np.shape(example[field]))}, wanted {list(shape)}.")
    if answers and spec.source_length < S:
        raise DataError(f"{where}: source has length {S}, its spec promises {spec.source_length} at most.")


def values(examples: list[dict], wheres: list[str], spec: Spec) -> None:
    """Checks that ids are below their bounds and features finite: all at once, or one by one to name a wrong one."""
    bounds = {"tokens": spec.vocabulary, "label": spec.classes, "source": spec.source_vocabulary}
    bounds = {field: bound for field, bound in bounds.items() if bound is not None} | {"features": None}
    for field, bound in bounds.items():
        known = [(where, np.asarray(e[field])) for where, e in zip(wheres, examples, strict=True) if field in e]
        kinds, name = ("biufc", "numbers") if bound is None else ("iu", "integers")
        for where, array in known:
            if array.dtype.kind not in kinds:
                raise DataError(f"{where}: {field} is {array.dtype}, wanted {name}.")
        if not known or _right(np.concatenate([array.ravel() for _, array in known]), bound).all():
            continue
        where, array = next((where, array) for where, array in known if not _right(array, bound).all())
        place = np.argwhere(~_right(array, bound))[0]
        wanted = "finite" if bound is None else f"0 to {bound - 1}"
        raise DataError(
            f"{where}: {field}{place.tolist() if array.ndim else ''} is {array[tuple(place)]}, wanted {wanted}."
        )


def _right(values: np.ndarray, bound: int | None) -> np.ndarray:
    """Which values are ids in 0 ... bound - 1; without a bound, which are finite."""
    return np.isfinite(values) if bound is None else (values >= 0) & (values < bound)
