"""Recurrent weights from and to keras: `get_weights` and `set_weights` of LSTM, GRU or SimpleRNN."""

from collections.abc import Mapping, Sequence

import numpy as np

from seqjax.converters._layout import Cell, fit, gates, ours, take

NAMES = ("kernel", "recurrent_kernel", "bias")


def read(weights: Sequence, cell: Cell) -> dict:
    """The params of our mixer from `layer.get_weights()`.

    The gates of a GRU are reordered from z, r, n to r, z, n. A keras GRU with reset_after=True (biases of shape
    (2, 3 D)) becomes our GRU; with False (biases of shape (3 D,)) it becomes GRU(reset_after=False), without bias_n.

    Args:
      weights: kernel, recurrent kernel and biases. Missing biases are read as zero, except for a GRU, because only
        their shape shows where the reset gate acts.
      cell: "lstm" (LSTM), "gru" (GRU) or "rnn" (SimpleRNN; use Elman(activation="relu") for activation="relu", which
        the weights do not show).

    Raises:
      ValueError: wrong number, shapes or dtypes of arrays; the input is not as wide as the output.
    """
    G = gates(cell)
    if not isinstance(weights, Sequence) or len(weights) not in (2, 3):
        raise ValueError(f"got {_summary(weights)}, wanted {', '.join(NAMES)}: give layer.get_weights() of one {cell}.")
    names = NAMES[: len(weights)]
    w = take(dict(zip(names, weights, strict=True)), names, f"keras' {cell}", "give layer.get_weights()")
    D = w["recurrent_kernel"].shape[0]
    if "bias" not in w:
        if cell == "gru":
            raise ValueError(
                "got a gru without biases, but their shape shows where the reset gate acts: add "
                f"np.zeros((2, {3 * D})) to the list if the layer has reset_after=True, else np.zeros({3 * D})."
            )
        w["bias"] = np.zeros(G * D, np.float32)
    after = cell == "gru" and w["bias"].ndim == 2
    whose = f"keras' {cell} of width {D}"
    shapes = {"recurrent_kernel": (D, G * D), "bias": (2, 3 * D) if after else (G * D,)}
    fit(w, shapes, whose, "name the right cell")
    fit(w, {"kernel": (D, G * D)}, whose, "its input must be as wide as its units")
    if cell == "gru":
        w = {name: _swap(array) for name, array in w.items()}
    params = {"kernel": w["kernel"], "recurrent": w["recurrent_kernel"], "bias": w["bias"]}
    if after:
        outside, inside = w["bias"]  # the second is added after the recurrent product; for n, inside the reset gate
        params["bias"] = outside + np.where(np.arange(3 * D) < 2 * D, inside, 0)
        params["bias_n"] = inside[2 * D :]
    return params


def write(params: Mapping, cell: Cell) -> list[np.ndarray]:
    """The arrays for `layer.set_weights`, from the params of our mixer. A GRU without bias_n is for reset_after=False.

    Raises:
      ValueError: wrong names, shapes or dtypes; options of our mixers that keras lacks.
    """
    p = ours(params, cell, "keras", less=("bias_n",))
    if "bias_n" in p:
        inside = np.zeros_like(p["bias"])
        inside[-p["bias_n"].size :] = p["bias_n"]
        p["bias"] = np.stack([p["bias"], inside])
    swap = _swap if cell == "gru" else np.asarray
    return [swap(p[name]) for name in ("kernel", "recurrent", "bias")]


def _swap(w):
    """Reorders gates: z, r, n <-> r, z, n."""
    first, second, n = np.split(w, 3, axis=-1)
    return np.concatenate([second, first, n], axis=-1)


def _summary(weights) -> str:
    return f"{len(weights)} arrays" if isinstance(weights, Sequence) else f"a {type(weights).__name__}"
