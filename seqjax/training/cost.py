"""The cost of a model (parameters, bytes, FLOPs), counted without running it."""

import functools
import math
import re

import jax
import numpy as np

from seqjax.machine import memory
from seqjax.types import ConfigError

path_name = functools.partial(jax.tree_util.keystr, simple=True, separator="/")


def parameter_table(params) -> list[tuple[str, tuple, int]]:
    """(path, shape, size) of every parameter."""
    rows = jax.tree_util.tree_leaves_with_path(params)
    return [(path_name(path), tuple(a.shape), math.prod(a.shape)) for path, a in rows]


def count(params, without: tuple[str, ...] = ()) -> int:
    """The number of parameters, but for those that are named in `without` (`Model.indices`)."""
    return sum(size for path, _, size in parameter_table(params) if path not in without)


def nbytes(tree) -> int:
    """Bytes of all arrays in a tree; the arrays may be abstract."""
    return sum(math.prod(a.shape) * np.dtype(a.dtype).itemsize for a in jax.tree.leaves(tree))


def of_device() -> int | None:
    """Bytes of memory of one device; None: it uses the memory of the machine."""
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")


def check_room(state) -> None:
    """Raises ConfigError if an (abstract) state is too large for the memory of all devices together."""
    each = of_device()
    have = each * jax.device_count() if each else memory() * jax.process_count()
    if (need := nbytes(state)) > have:
        raise ConfigError(
            f"model: {count(state.params):,} parameters with the state of the optimiser take {need:,} bytes, but "
            f"{'this machine has' if not each else 'the devices have'} {have:,}: lower model.width or model.layers."
        )


def flops(function, *args) -> float:
    """Floating-point operations of the matrix products in `function(*args)`; arguments may be abstract.

    They are counted in the jaxpr; the body of a loop counts as often as it runs. XLA's own analysis counts it once,
    which makes a recurrent network look a hundred times cheaper than it is. A multiply-add is two operations;
    elementwise work is not counted. Attention scores that are skipped cost nothing, and scores that the backward pass
    computes again cost again. A loop whose length depends on the data counts as often as its `jax.named_scope` says
    ("times=12.5", on average), or once. The programs in `shard_map` and `pallas_call` count once for each device or
    grid cell.
    """
    return _count(jax.make_jaxpr(function)(*args).jaxpr)


def _count(jaxpr) -> float:
    total = 0.0
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if name in _COUNTED:
            total += _COUNTED[name](*(a.aval.shape for a in (*eqn.invars, *eqn.outvars)), **eqn.params)
        elif name == "cond":
            total += max(_count(branch.jaxpr) for branch in eqn.params["branches"])
        else:
            total += _times(eqn) * sum(_count(inner) for inner in _inner(eqn.params))
    return total


def _product(a, b, y, *, dimension_numbers, **_) -> float:
    (contract, _), _ = dimension_numbers
    return 2 * math.prod(y) * math.prod(a[d] for d in contract)


def _convolution(x, kernel, y, *, dimension_numbers, **_) -> float:
    return 2 * math.prod(y) * math.prod(kernel) / kernel[dimension_numbers.rhs_spec[0]]


def _cudnn_lstm(x, *_, input_size, hidden_size, **__) -> float:
    return 2 * math.prod(x[:2]) * 4 * hidden_size * (input_size + hidden_size)


def _cudnn_scores(q, k, *_, mask_type, sliding_window_length, **__) -> float:
    """FLOPs of one product of all queries with the keys that they see."""
    (B, L, H, K), S = q, k[1]
    causal, window = "CAUSAL" in str(mask_type), sliding_window_length or S
    return 2 * B * H * K * (sum(min(i + 1, window) for i in range(L)) if causal else L * S)


_COUNTED = {
    "dot_general": _product,
    "conv_general_dilated": _convolution,
    "rnn_fwd": _cudnn_lstm,
    "rnn_bwd": lambda dy, dh, dc, x, *rest, **params: 2 * _cudnn_lstm(x, **params),
    "dot_product_attention_fwd_wrapper": lambda *shapes, **params: 2 * _cudnn_scores(*shapes, **params),
    "dot_product_attention_bwd_wrapper": lambda *shapes, **params: 5 * _cudnn_scores(*shapes, **params),
}


def _times(eqn) -> float:
    """How often the program inside an equation runs."""
    name, params = eqn.primitive.name, eqn.params
    if name == "scan":
        return params["length"]
    if name == "shard_map":
        axes = next(value for key, value in params.items() if key.endswith("manual_axes"))  # its name varies in JAX
        return math.prod(params["mesh"].shape[axis] for axis in axes)
    if name == "pallas_call":
        return math.prod(params["grid_mapping"].grid)
    said = re.search(r"times=([^/)]+)", str(eqn.source_info.name_stack)) if name == "while" else None
    return float(said[1]) if said else 1


def _inner(params):
    for value in params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if hasattr(item, "eqns"):
                yield item
            elif hasattr(item, "jaxpr") and hasattr(item.jaxpr, "eqns"):
                yield item.jaxpr
