"""Recurrent weights from and to flax.linen: params of LSTMCell, OptimizedLSTMCell, GRUCell or SimpleCell."""

from collections.abc import Mapping

import jax
import numpy as np

from seqjax.converters._layout import Cell, fit, gates, ours, take

LETTERS = {"lstm": "ifgo", "gru": "rzn", "rnn": ("",)}
BIASED = {"lstm": "h", "gru": "i", "rnn": "i"}  # the product of a gate that has the bias: input (i) or hidden (h)


def read(weights: Mapping, cell: Cell) -> dict:
    """The params of our mixer, with gates side by side, from the params of a flax cell.

    Args:
      weights: the params of the cell itself, `{"ii": {"kernel": ...}, "hi": {"kernel": ..., "bias": ...}, ...}`;
        for `nn.RNN` these are `variables["params"]["cell"]`. Numpy must be able to read the arrays.
      cell: "lstm" (LSTMCell, OptimizedLSTMCell), "gru" (GRUCell) or "rnn" (SimpleCell without residual; use
        Elman(activation="relu") for activation_fn=nn.relu, which the weights do not show).

    Raises:
      ValueError: wrong names, shapes or dtypes; the input is not as wide as the state.
    """
    gates(cell)
    flat = {jax.tree_util.keystr(path, simple=True, separator="/"): w for path, w in jax.tree.leaves_with_path(weights)}
    fix = "give the params of the cell itself (for nn.RNN variables['params']['cell']), and name the right cell"
    w = take(flat, _names(cell), f"flax's {cell}", fix)
    D = w[_names(cell)[-1]].shape[-1]
    fit(
        w,
        {name: (D,) if name.endswith("bias") else (D, D) for name in w},
        f"flax's {cell} of width {D}",
        "its input must be as wide as its features",
    )
    join = lambda side, kind: np.concatenate([w[f"{side}{gate}/{kind}"] for gate in LETTERS[cell]], axis=-1)
    params = {"kernel": join("i", "kernel"), "recurrent": join("h", "kernel"), "bias": join(BIASED[cell], "bias")}
    return params | ({"bias_n": w["hn/bias"]} if cell == "gru" else {})


def write(params: Mapping, cell: Cell) -> dict:
    """The params of a flax cell from those of our mixer: `cell.apply({"params": write(params, "gru")}, ...)`.

    For `nn.RNN` the variables are `{"params": {"cell": write(params, "gru")}}`.

    Raises:
      ValueError: wrong names, shapes or dtypes; options of our mixers that flax lacks.
    """
    p = ours(params, cell, "flax")
    blocks = {}
    for side, kind, name in (("i", "kernel", "kernel"), ("h", "kernel", "recurrent"), (BIASED[cell], "bias", "bias")):
        for gate, block in zip(LETTERS[cell], np.split(p[name], gates(cell), axis=-1), strict=True):
            blocks.setdefault(side + gate, {})[kind] = np.ascontiguousarray(block)
    if cell == "gru":
        blocks["hn"]["bias"] = p["bias_n"]
    return blocks


def _names(cell: Cell) -> list[str]:
    names = [f"{side}{gate}/kernel" for side in "ih" for gate in LETTERS[cell]]
    names += ["hn/bias"] if cell == "gru" else []
    return names + [f"{BIASED[cell]}{gate}/bias" for gate in LETTERS[cell]]
