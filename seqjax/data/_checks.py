"""What a source gives, held against what its spec promises."""

import numpy as np

from seqjax import lookup
from seqjax.data import _files
from seqjax.types import ConfigError, DataError, Spec

ORDER = 40  # bytes for each example of a split, to put them into an order


def sizes(spec: Spec, split: str, examples: int | None, batch: int, length: int) -> None:
    """What is too large for memory or for int32, before anything of it is made.

    Raises:
      ConfigError: a vocabulary beyond 2**31, a batch that takes more than a sixteenth of the memory.
      DataError: so many examples that their order does.
    """
    for name in ("vocabulary", "source_vocabulary", "classes"):
        if (getattr(spec, name) or 0) > 2**31:
            raise ConfigError(f"data has {name}={getattr(spec, name):,}, wanted at most 2**31: ids are int32.")
    tokens, memory = length + (spec.source_length or 0), _files.memory()
    nbytes = 4 * batch * tokens * (spec.features or 1)
    if nbytes > (most := memory // 16):  # several are read ahead, and masks and copies come with each
        raise ConfigError(
            f"loader.batch_size={batch} rows of {tokens:,} tokens take {nbytes:,} bytes, wanted at most a sixteenth of the "
            f"memory, {most:,}: lower loader.batch_size or data.length; or set loader.buckets, the lengths to pad to, and "
            "loader.too_long for what is longer."
        )
    if examples is not None and ORDER * examples > (most := memory // 2):
        raise DataError(
            f"split {split!r} has {examples:,} examples, and their order takes {ORDER * examples:,} bytes, wanted at "
            f"most half the memory, {most:,}: give fewer."
        )


def shapes(example: dict, spec: Spec, where: str) -> None:
    """The fields of an example and their shapes."""
    x = "features" if spec.vocabulary is None else "tokens"
    answers = spec.source_vocabulary is not None
    for field in [x] + ["label"] * (spec.classes is not None) + ["source"] * answers:
        if field not in example:
            raise DataError(f"{where} has {lookup.listed(example) or 'no fields'}; its spec promises {field!r}.")
    if "source" in example and not answers:
        raise DataError(f"{where} has a source; its spec says nothing of it: set source_vocabulary in the spec.")
    L, S = len(example[x]), np.size(example.get("source", ()))
    wanted = {"tokens": (L,), "features": (L, spec.features), "scored": (L,), "reset": (L,), "label": ()}
    for field, shape in {**wanted, "source": (S,)}.items():
        if field in example and np.shape(example[field]) != shape:
            raise DataError(f"{where}: {field} has shape {list(np.shape(example[field]))}, wanted {list(shape)}.")
    if answers and spec.source_length < S:
        raise DataError(f"{where}: source has length {S}, its spec promises {spec.source_length} at most.")


def values(examples: list[dict], wheres: list[str], spec: Spec) -> None:
    """Ids below their bounds, features finite: looked at together, and one by one only to say which is not."""
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
    """Which values are ids below a bound; without one, which are finite."""
    return np.isfinite(values) if bound is None else (values >= 0) & (values < bound)
