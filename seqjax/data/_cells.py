"""What a cell of a table holds: text, a label, labels or numbers."""

import numpy as np

from seqjax.tokenizers._base import encoded
from seqjax.types import DataError

FLOAT32_MAX = float(np.finfo(np.float32).max)


def text(value, where: str) -> str:
    """A text that is not empty, and can be written as UTF-8."""
    if not isinstance(value, str):
        raise DataError(f"{where}: got {shown(value)}, wanted text.")
    if not value:
        raise DataError(f"{where}: the text is empty: fill it in or delete the record.")
    encoded(value, "utf-8", where)
    return value


def label(value, where: str) -> str | int:
    """A string that is not blank, or a whole number."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise DataError(f"{where}: got {shown(value)}, wanted a string or a whole number.")
    if isinstance(value, str) and not value.strip():
        raise DataError(f"{where}: the cell is empty: fill it in or delete the record.")
    return value


def labels(value, where: str, separator: str) -> tuple[str | int, ...]:
    """A list of labels, or a string with a separator between them; an empty one is no label."""
    if isinstance(value, str):
        value = value.split(separator) if value.strip() else []
    if not isinstance(value, list):
        raise DataError(f"{where}: got {shown(value)}, wanted a list of labels, or a string with {separator!r} in it.")
    found = tuple(label(one, where) for one in value)
    plain = [one.strip() if isinstance(one, str) else one for one in found]
    for one in plain:
        if plain.count(one) > 1:
            raise DataError(f"{where}: the label {short(one)} is there twice: remove one of them.")
    return found


def features(value, where: str) -> np.ndarray:
    """A list of numbers -> (L, 1), a list of lists -> (L, F)."""
    if not isinstance(value, list) or not value:
        raise DataError(f"{where}: got {shown(value)}, wanted a list of numbers, or of lists of numbers.")
    steps = value if isinstance(value[0], list) else [[number] for number in value]
    for step, vector in enumerate(steps):
        if not isinstance(vector, list) or not vector or len(vector) != len(steps[0]):
            wanted = f"{len(steps[0])} numbers as in step 0" if steps[0] else "numbers"
            raise DataError(f"{where}, step {step}: got {shown(vector)}, wanted a list of {wanted}.")
        for number in vector:
            # False for NaN too, and exact for a whole number of any size.
            if type(number) not in (int, float) or not abs(number) <= FLOAT32_MAX:
                raise DataError(f"{where}, step {step}: got {shown(number)}, wanted a finite float32 number.")
    return np.array(steps, np.float32)


def shown(value) -> str:
    """A value in an error: short, and with its type."""
    return f"{short(value)} ({type(value).__name__})"


def short(value) -> str:
    """A value in an error, cut to 40 characters."""
    text = repr(value)
    return text if len(text) < 40 else text[:37] + "..."
