"""Layers of equal size: the mixers that can be compared, and their widths."""

import functools
import math
from collections.abc import Callable

WINDOW = 256
ROOM = 1024  # cache capacity of a layer that is only inspected
NEAR, FAR = 0.02, 0.04  # relative tolerance in the number of parameters, and where no width is so near
VARIANTS = {"attention_window": ("attention", {"window": WINDOW})}


def names() -> tuple[list[str], dict[str, str]]:
    """The layers that can be timed, attention first; and for the others the reason why not."""
    from seqjax import lookup

    found, absent = ["attention", *VARIANTS], {}
    for name in lookup.names("seqjax.mixers"):
        if name in found:
            continue
        try:
            layer = mixer(name, 256, "float32", ROOM)
        except (TypeError, ValueError) as error:
            absent[name] = f"a width is not enough for it: {error}"
            continue
        if layer.memory:
            absent[name] = "it reads a second sequence"
        elif not layer.causal:
            absent[name] = "it sees the future"
        else:
            found.append(name)
    return found, absent


def mixer(name: str, width: int, dtype: str, room: int):
    """A layer; `room` is the capacity of its cache, if it has one."""
    from seqjax import lookup
    from seqjax.types import fields_of

    kind, given = VARIANTS.get(name, (name, {}))
    make = lookup.find(kind, "seqjax.mixers", "Mixer")
    capacity = {"max_length": room} if "max_length" in fields_of(make) else {}
    return make(width=width, dtype=dtype, **capacity, **given)


def parameters(layer) -> int:
    """The number of parameters of a layer."""
    import jax
    import jax.numpy as jnp

    from seqjax.training import cost

    return cost.count(jax.eval_shape(lambda: layer.init(jax.random.key(0), jnp.zeros((1, 1, layer.width)))))


@functools.cache
def width_like(name: str, width: int) -> int:
    """The width at which a layer has as many parameters as attention at `width`."""
    at = lambda name: lambda width: mixer(name, width, "float32", ROOM)
    return equal_width(at(name), parameters(at("attention")(width)))


def equal_width(make: Callable, target: int) -> int:
    """The width at which `make(width)` has `target` parameters within NEAR, or if there is none, within FAR.

    Of several widths, the one that the highest power of two divides is taken, because it suits the hardware best.

    Raises:
      ValueError: no width fits.
    """
    count = functools.cache(lambda width: parameters(make(width)))
    probe = 64
    for _ in range(8):  # parameters grow about with the square of the width
        near = probe * math.sqrt(target / count(probe))
        probe = max(16, 16 * round(near / 16))
    for tolerance in (NEAR, FAR):
        widths = range(max(1, math.ceil(near * (1 - tolerance))), math.floor(near * (1 + tolerance)) + 1)
        for width in sorted(widths, key=lambda width: (-(width & -width), abs(width - near))):
            try:
                if abs(count(width) / target - 1) <= tolerance:
                    return width
            except ValueError:  # heads do not divide the width
                continue
    raise ValueError(f"no width near {near:.0f} has {target:,} parameters within {FAR:.0%}.")


def train(layer):
    """A function that returns <y, dy> and its gradients by all parameters and by x."""
    import jax
    import jax.numpy as jnp

    loss = lambda params, x_BLD, dy_BLD: jnp.vdot(layer.apply(params, x_BLD)[0], dy_BLD)
    return jax.value_and_grad(loss, argnums=(0, 1))


def read(layer):
    """A function that returns y and the final state, from an empty state."""
    return lambda params, x_BLD: layer.apply(params, x_BLD, layer.init_state(len(x_BLD)))
