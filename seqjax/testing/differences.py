"""Says where two results differ: which row, which token, which parameter, and by how much."""

from collections.abc import Iterator

import jax
import numpy as np

from seqjax.testing.rows import LAYOUT, MASK

SHOWN = 3  # rows, and parameters


def tokens(what: str, got, wanted, tolerance: float, at=MASK, rows=LAYOUT) -> Iterator[str]:
    """The tokens in which two arrays (B, L, ...) differ, of those at which `at` (B, L) is True; nothing if none does.

    `tolerance` is a part of the largest number of `wanted`, or of 1 if that is larger.
    """
    if np.shape(got) != np.shape(wanted):
        yield f"{what} is {list(np.shape(got))}, wanted {list(np.shape(wanted))}"
        return
    far, same, bound = _far(got, wanted, tolerance)
    flat = lambda a: a.reshape(*at.shape, -1)
    differs = ~flat(same).all(axis=2) & at
    if not differs.any():
        return
    yield f"{what} differs at {differs.sum()} of {at.sum()} tokens{_by(flat(far)[differs], bound)}:"
    shown = list({rows[b]: b for b in reversed(np.flatnonzero(differs.any(axis=1)))}.items())[::-1]
    for row, b in shown[:SHOWN]:
        t = int(np.argmax(differs[b]))
        i = int(np.argmax(np.nan_to_num(flat(far)[b, t], nan=np.inf)))
        a, w = (_number(flat(np.asarray(values))[b, t, i]) for values in (got, wanted))
        yield f"  row {b:<3} {row}"
        marks = "".join("^" if wrong else " " for wrong in differs[b])
        yield f"          {marks}   first at token {t}, feature {i}: got {a}, wanted {w}"
    if len(shown) > SHOWN:
        yield "  and rows of other layouts"


def leaves(what: str, got, wanted, tolerance: float) -> Iterator[str]:
    """The arrays in which two trees differ, by their paths."""
    found = []
    pairs = zip(jax.tree.leaves_with_path(got), jax.tree.leaves(wanted), strict=True)
    for (path, a), b in pairs:
        far, same, bound = _far(a, b, tolerance)
        if not same.all():
            at = np.unravel_index(np.argmax(np.nan_to_num(far, nan=np.inf)), far.shape)
            numbers = f"got {_number(np.asarray(a)[at])}, wanted {_number(np.asarray(b)[at])}"
            place = f" at {list(map(int, at))}" if at else ""
            found.append(f"{what} {name(path)} differs{_by(far[~same], bound)}:{place} {numbers}")
    yield from found[:SHOWN]
    if len(found) > SHOWN:
        yield f"and of {len(found) - SHOWN} others"


def both(way: str, got, wanted, tolerance: float, at=MASK) -> Iterator[str]:
    """What differs in pairs (y, gradients) of `ways.evaluate`: values, or else gradients by input and parameters.

    Of y and of the gradient by the input only the tokens `at` count.
    """
    (y, (by_params, *by_x)), (wanted_y, (wanted_params, *wanted_x)) = got, wanted
    if found := list(tokens(f"the output {way}", y, wanted_y, tolerance, at)):
        yield from found  # the gradients of other values are others
        return
    for a, b in zip(by_x, wanted_x, strict=True):
        yield from tokens(f"the gradient by the input {way}", a, b, tolerance, at)
    yield from leaves(f"the gradient {way} by the parameter", by_params, wanted_params, tolerance)


def name(path) -> str:
    """The path of an array in a tree, without what the laws have put around it."""
    return jax.tree_util.keystr(path, simple=True, separator="/").removeprefix("params/").removeprefix("inner/") or "()"


def _far(got, wanted, tolerance: float):
    """How far each number is away, which count as the same, and how far they may be."""
    a, b = np.asarray(got, np.float32), np.asarray(wanted, np.float32)
    bound = tolerance * max(1.0, np.max(np.abs(b), initial=0, where=np.isfinite(b)))
    with np.errstate(invalid="ignore"):
        far = np.abs(a - b)
    far = np.where(a == b, 0, far)
    return far, (far <= bound) | (np.isnan(a) & np.isnan(b)), bound


def _by(far, bound: float) -> str:
    largest = np.max(np.nan_to_num(far, nan=np.inf))
    return f" by up to {largest:.2g} (tolerance {bound:.1g})" if np.isfinite(largest) else ""


def _number(value) -> str:
    return f"{float(value):.5g}"
