"""What a model costs, counted without running it."""

import math

import jax
import numpy as np


def parameter_table(params) -> list[tuple[str, tuple, int]]:
    """(path, shape, size) of every parameter."""
    rows = jax.tree_util.tree_leaves_with_path(params)
    return [(jax.tree_util.keystr(p, simple=True, separator="/"), tuple(a.shape), math.prod(a.shape)) for p, a in rows]


def count(params) -> int:
    """The number of parameters."""
    return sum(size for _, _, size in parameter_table(params))


def nbytes(tree) -> int:
    """Bytes of all arrays of a tree, abstract ones too."""
    return sum(math.prod(a.shape) * np.dtype(a.dtype).itemsize for a in jax.tree.leaves(tree))


def flops(function, *args) -> float:
    """Floating-point operations of the matrix products in `function(*args)`; arguments may be abstract.

    Counted in the jaxpr, a loop's body as often as it runs: XLA's own analysis counts it once, which makes a
    recurrent network look a hundred times cheaper than it is. A multiply-add is two operations; elementwise work is
    left out, and so is the body of a `while` whose length is not known (counted once).
    """
    return _count(jax.make_jaxpr(function)(*args).jaxpr)


def _count(jaxpr) -> float:
    total = 0.0
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if name == "dot_general":
            (contract, _), _ = eqn.params["dimension_numbers"]
            inner = math.prod(eqn.invars[0].aval.shape[d] for d in contract)
            total += 2 * math.prod(eqn.outvars[0].aval.shape) * inner
        elif name == "conv_general_dilated":
            kernel = eqn.invars[1].aval.shape
            out_features = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
            total += 2 * math.prod(eqn.outvars[0].aval.shape) * math.prod(kernel) / out_features
        elif name == "cond":
            total += max(_count(branch.jaxpr) for branch in eqn.params["branches"])
        else:
            times = eqn.params["length"] if name == "scan" else 1
            total += times * sum(_count(inner) for inner in _inner(eqn.params))
    return total


def _inner(params):
    for value in params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if hasattr(item, "eqns"):
                yield item
            elif hasattr(item, "jaxpr") and hasattr(item.jaxpr, "eqns"):
                yield item.jaxpr
