"""Cuts and pads examples as the fields of their spec say."""

import math
from collections.abc import Sequence

import numpy as np

from seqjax.spec import Spec, mask_name


def cut(
    example: dict[str, np.ndarray], spec: Spec, start: int, length: int, axis: str = "L"
) -> dict[str, np.ndarray] | None:
    """Keeps `length` places of an axis from `start` on, and moves what points into it; None if it points outside."""
    kept = {}
    for name, field in spec.fields.items():
        value = example[name][start : start + length] if field.axis == axis else example[name]
        if field.into == axis:
            value = value.astype(np.int64) - start
            if ((value < 0) | (value >= length)).any():
                return None
        kept[name] = value
    return kept


def pad(examples: Sequence[dict | None], spec: Spec, lengths: dict[str, int], rows: int) -> dict[str, np.ndarray]:
    """A batch of the examples; None, and rows beyond them, are empty rows: zeros, without mask and weight.

    `lengths`: axis -> length to pad to.
    """
    batch = {name: np.zeros(shape, dtype) for name, (shape, dtype) in _shapes(spec, lengths, rows).items()}
    batch["weight"] = np.zeros(rows, np.float32)
    at = [row for row, example in enumerate(examples) if example is not None]
    real = [examples[row] for row in at]
    if not real:
        return batch
    batch["weight"][at] = 1
    for axis, name in spec.axes.items():
        length_B = np.zeros(rows, np.int32)
        length_B[at] = [len(example[name]) for example in real]
        np.less(np.arange(lengths[axis]), length_B[:, None], out=batch[mask_name(axis)])
    for name, field in spec.fields.items():
        values = [example[name] for example in real]
        if field.axis is None:
            where, flat = at, np.stack(values)
        else:
            where, flat = batch[mask_name(field.axis)], np.concatenate(values)
        if field.missing:
            observed = ~np.isnan(flat)
            batch[f"{name}_observed"][where], flat = observed, np.where(observed, flat, 0)
        batch[name][where] = flat
    return batch


def nbytes(spec: Spec, lengths: dict[str, int], rows: int) -> int:
    """The bytes of a batch that is padded to `lengths`."""
    shapes = _shapes(spec, lengths, rows).values()
    return sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in shapes) + 4 * rows


def _shapes(spec: Spec, lengths: dict[str, int], rows: int) -> dict[str, tuple]:
    """Name -> (shape, dtype) of the arrays of a batch, except `weight`."""
    along = {None: (), **{axis: (length,) for axis, length in lengths.items()}}
    return {name: ((rows, *along[c.axis], *c.shape), c.dtype) for name, c in spec.columns.items()}
