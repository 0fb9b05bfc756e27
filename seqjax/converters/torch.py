"""Recurrent weights from and to torch: `state_dict` of nn.LSTM, nn.GRU or nn.RNN."""

from collections.abc import Mapping

import numpy as np

from seqjax.converters._layout import Cell, fit, gates, ours, take

INPUT = "its input_size must equal its hidden_size, or its proj_size if set: put a linear layer before it"


def read(weights: Mapping, cell: Cell) -> dict:
    """The params of our mixer from the `state_dict` of a torch layer.

        kernel = W_ih^T, recurrent = W_hh^T, bias = b_ih + b_hh      (for n of a GRU, b_in and b_hn stay separate)

    Args:
      weights: arrays that numpy can read, named as in torch (`weight_ih_l0`, ...). Missing biases are read as zero.
      cell: "lstm" (nn.LSTM; with proj_size it becomes LSTM(hidden_size=hidden_size)), "gru" (nn.GRU) or "rnn" (nn.RNN;
        use Elman(activation="relu") for nonlinearity="relu", which the weights do not show).

    Returns:
      Float32 arrays; for more than one layer, `{"layers_0": ..., "layers_1": ...}`, the params of `stacked`.

    Raises:
      ValueError: wrong names, shapes or dtypes; two directions; the input is not as wide as the output.
    """
    gates(cell)
    names = list(weights) if isinstance(weights, Mapping) else []
    if reverse := [name for name in names if str(name).endswith("_reverse")]:
        raise ValueError(
            f"got {reverse[0]}, wanted one direction: read each direction separately, and remove `_reverse` from the "
            "names of the second."
        )
    layers = max(1, sum(str(name).startswith("weight_ih_l") for name in names))
    kinds = ["weight_ih", "weight_hh"]
    if any(str(name).startswith("bias_") for name in names):
        kinds += ["bias_ih", "bias_hh"]
    if cell == "lstm" and "weight_hr_l0" in names:
        kinds += ["weight_hr"]
    fix = "give the state_dict of only that layer, and name the right cell"
    w = take(weights, [f"{kind}_l{n}" for n in range(layers) for kind in kinds], f"torch's {cell}", fix)
    params = [_read_layer(w, n, cell) for n in range(layers)]
    return params[0] if layers == 1 else {f"layers_{n}": p for n, p in enumerate(params)}


def _read_layer(w, n: int, cell: Cell) -> dict:
    G, projection = gates(cell), w.get(f"weight_hr_l{n}")
    D = w[f"weight_hh_l{n}"].shape[-1]
    N = D if projection is None else projection.shape[-1]
    sizes = {"weight_hh": (G * N, D), "weight_hr": (D, N), "bias_ih": (G * N,), "bias_hh": (G * N,)}
    whose = f"torch's {cell} of width {D}"
    fit(w, {f"{kind}_l{n}": size for kind, size in sizes.items()}, whose, "name the right cell")
    fit(w, {f"weight_ih_l{n}": (G * N, D)}, whose, INPUT)
    zeros = np.zeros(G * N, np.float32)
    bias, recurrent_bias = w.get(f"bias_ih_l{n}", zeros), w.get(f"bias_hh_l{n}", zeros)
    params = {"kernel": _turn(w[f"weight_ih_l{n}"]), "recurrent": _turn(w[f"weight_hh_l{n}"])}
    if cell == "gru":
        inside = np.arange(G * N) >= 2 * N  # b_hn is inside the reset gate
        return params | {"bias": bias + np.where(inside, 0, recurrent_bias), "bias_n": recurrent_bias[inside]}
    params["bias"] = bias + recurrent_bias
    return params if projection is None else params | {"projection": _turn(projection)}


def write(params: Mapping, cell: Cell) -> dict[str, np.ndarray]:
    """The `state_dict` of a torch layer from the params of our mixer, or of a `stacked` of it (without residual).

    Our bias goes to b_ih, and zeros to b_hh (for n of a GRU, bias_n). For `load_state_dict`, turn it into tensors:
    `{name: torch.from_numpy(w) for name, w in write(params, "gru").items()}`.

    Raises:
      ValueError: wrong names, shapes or dtypes; options of our mixers that torch lacks.
    """
    layers = [params]
    if isinstance(params, Mapping) and "layers_0" in params:
        names = [f"layers_{n}" for n in range(len(params))]
        if set(params) != set(names):
            raise ValueError(f"got {', '.join(params)}, wanted {', '.join(names)}: give the params of one `stacked`.")
        layers = [params[name] for name in names]
    layers = [ours(p, cell, "torch", also=("projection",) if cell == "lstm" else ()) for p in layers]
    shapes = [{name: p[name].shape for name in p} for p in layers]
    if shapes != shapes[:1] * len(shapes):
        raise ValueError(
            f"got layers of shapes {shapes}, torch wants equal shapes in all layers of a {cell}: write each layer "
            "separately."
        )
    return {name: w for n, p in enumerate(layers) for name, w in _write_layer(p, n).items()}


def _write_layer(p, n: int) -> dict[str, np.ndarray]:
    w = {
        f"weight_ih_l{n}": _turn(p["kernel"]),
        f"weight_hh_l{n}": _turn(p["recurrent"]),
        f"bias_ih_l{n}": p["bias"],
        f"bias_hh_l{n}": np.zeros_like(p["bias"]),
    }
    if "bias_n" in p:
        w[f"bias_hh_l{n}"][-p["bias_n"].size :] = p["bias_n"]
    if "projection" in p:
        N, D = p["projection"].shape
        if N <= D:
            raise ValueError(
                f"got hidden_size={N} and width {D}, torch wants proj_size (our width) < hidden_size: torch has no "
                "such layer."
            )
        w[f"weight_hr_l{n}"] = _turn(p["projection"])
    return w


def _turn(w_ij):
    return np.ascontiguousarray(w_ij.T)
