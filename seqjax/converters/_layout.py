"""Shared code of the converters: the names of cells, and checks of arrays by name, dtype and shape."""

from collections.abc import Iterable, Mapping
from typing import Literal

import jax.numpy as jnp
import numpy as np

Cell = Literal["lstm", "gru", "rnn"]

GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def gates(cell: Cell) -> int:
    """The number of gates, whose blocks are side by side in the kernels of a cell."""
    if cell not in GATES:
        raise ValueError(f"cell={cell!r}: choose from {', '.join(map(repr, GATES))}.")
    return GATES[cell]


def take(weights, names: Iterable[str], whose: str, fix: str) -> dict[str, np.ndarray]:
    """Float32 copies of the arrays of these names, in this order; ValueError if names are missing or unknown."""
    names = list(names)
    if not isinstance(weights, Mapping) or set(weights) != set(names):
        got = ", ".join(map(str, weights)) if isinstance(weights, Mapping) else f"a {type(weights).__name__}"
        raise ValueError(f"got {got or 'nothing'}; {whose} has {', '.join(names)}: {fix}.")
    return {name: _floats(weights[name], name) for name in names}


def _floats(value, name: str) -> np.ndarray:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # torch raises these for bfloat16, a device or a gradient
        raise ValueError(f"numpy cannot read {name} ({error}): give float32 arrays in main memory.") from error
    if array.ndim == 0 or not jnp.issubdtype(array.dtype, jnp.floating):  # jnp: numpy does not know bfloat16
        raise ValueError(
            f"{name} is {array.dtype}{list(array.shape)}, wanted an array of floating-point numbers: convert it first."
        )
    with np.errstate(over="ignore"):
        out = np.array(array, np.float32, order="C")  # a copy, because torch changes its weights in place
    if np.any(np.isinf(out) & np.isfinite(array)):
        raise ValueError(
            f"{name} has numbers outside the range of float32, up to {np.abs(array).max():g}: scale them down."
        )
    return out


def fit(arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], whose: str, fix: str) -> None:
    """Raises ValueError unless every array that `shapes` names has that shape; missing arrays are not checked."""
    for name, shape in shapes.items():
        if name in arrays and arrays[name].shape != shape:
            raise ValueError(f"{name} is {list(arrays[name].shape)}, {whose} wants {list(shape)}: {fix}.")


def ours(params, cell: Cell, library: str, *, also: tuple[str, ...] = (), less: tuple[str, ...] = ()):
    """The params of one of our mixers, checked, as float32 copies.

    `also` names further params that the library supports, `less` names usual params that it does not require.
    """
    G = gates(cell)
    usual = ["kernel", "recurrent", "bias", *(["bias_n"] if cell == "gru" else [])]
    given = params if isinstance(params, Mapping) else {}
    names = [name for name in usual if name in given or name not in less]
    names += [name for name in also if name in given]
    fix = f"give the 'params' of one {cell} mixer, without options that {library} lacks"
    p = take(params, names, f"the {cell} that {library} can hold", fix)
    N = p["bias"].size // G
    D = p["projection"].shape[-1] if "projection" in p else N
    shapes = {
        **{"kernel": (D, G * N), "recurrent": (D, G * N), "bias": (G * N,)},
        **{"bias_n": (N,), "projection": (N, D)},
    }
    fit(p, shapes, f"a {cell} mixer with {N} cells", f"name the cell whose params these are, {', '.join(GATES)}")
    return p
