"""Recurrent weights from and to flax.linen: params of LSTMCell, OptimizedLSTMCell, GRUCell or SimpleCell."""

from collections.abc import Mapping

import jax
import numpy as np

from seqjax.converters._layout import Cell, fit, gates, ours, take

LETTERS = {"lstm": "ifgo", "gru": "rzn", "rnn": ("",)}
BIASED = {"lstm": "h", "gru": "i", "rnn": "i"}  # which of a gate's two products, input or hidden, has the bias


def read(weights: Mapping, cell: Cell) -> dict:
    """The params of our mixer from those of a cell: its gates side by side.

    Args:
      weights: of the cell itself, `{"ii": {"kernel": ...}, "hi": {"kernel": ..., "bias": ...}, ...}`;
        inside `nn.RNN` that is `variables["params"]["cell"]`. Anything that numpy reads.
      cell: "lstm" (LSTMCell, OptimizedLSTMCell), "gru" (GRUCell) or "rnn" (SimpleCell without residual;
        activation_fn=nn.relu is Elman(activation="relu"), which weights do not tell).

    Raises:
      ValueError: other names, shapes or types; an input that is not as wide as the state.
    """
    gates(cell)
    flat = {jax.tree_util.keystr(path, simple=True, separator="/"): w for path, w in jax.tree.leaves_with_path(weights)}
    fix = "give the params of the cell itself, in nn.RNN variables['params']['cell'], and name the cell that it is"
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

    In `nn.RNN` they are `{"params": {"cell": write(params, "gru")}}`.

    Raises:
      ValueError: other names, shapes or types; options of our mixers that flax lacks.
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
