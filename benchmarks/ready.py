"""What a contender is when it is ready: a call that does the work once, made of a JAX or of a torch function."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple


class Decoded(NamedTuple):
    """What a call did that took one token after the other, and the size of the state that each of them read."""

    steps: int
    rows: int
    state_bytes: int


class Built(NamedTuple):
    """A contender, ready: `call` does the work once and returns when the result is there."""

    call: Callable[[], Any]
    device: str
    compile_s: float | None = None  # lowering and compiling
    temp_mb: float | None = None  # temporary memory of the compiled program
    decoded: Decoded | None = None


def jitted(function: Callable, *args) -> Built:
    """Compiles a JAX function for these arguments and tries it: everything in its result must be finite."""
    import jax
    import jax.numpy as jnp

    args = jax.device_put(args)
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*args).compile()
    seconds = time.perf_counter() - start
    for path, leaf in jax.tree_util.tree_leaves_with_path(compiled(*args)):
        if not jnp.isfinite(leaf).all():
            raise ValueError(f"result{jax.tree_util.keystr(path)} has numbers that are not finite.")
    temp = compiled.memory_analysis().temp_size_in_bytes / 2**20
    return Built(lambda: jax.block_until_ready(compiled(*args)), device(), seconds, temp)


def eager(forward: Callable, wanted: list | None = None, dy=None) -> Built:
    """A torch function as its users run it: its result alone; with `dy` <result, dy> and its gradients by `wanted`."""
    import torch

    def call():
        if dy is None:
            with torch.inference_mode():
                out = forward()
        else:
            out = torch.autograd.grad(torch.vdot(forward().reshape(-1), dy.reshape(-1)), wanted)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return out

    return Built(call, torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu")


def tensors(*arrays) -> list:
    """Numpy arrays as torch has them, on the GPU if it has one."""
    import torch

    return [torch.from_numpy(a).to("cuda" if torch.cuda.is_available() else "cpu") for a in arrays]


def device() -> str:
    """`cpu`, or the name of the accelerator that JAX computes on."""
    import jax

    first = jax.devices()[0]
    return "cpu" if first.platform == "cpu" else first.device_kind
