"""A contender that is ready to be timed: a call that does the work once, made from a JAX or a torch function."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Decoded(NamedTuple):
    """The tokens of a call that reads one token after the other, and the size of the state that each step reads."""

    steps: int
    rows: int
    state_bytes: int


class Work(NamedTuple):
    """What a call of a layer needs by its definition: FLOPs of matrix products, and bytes read and written."""

    width: int
    parameters: int
    tokens: int  # of all rows
    flops: float
    moved: int  # bytes of arguments and results, each once
    held: int  # bytes of the state of one row
    peak: int  # bytes of arguments, results and temporaries


class Built(NamedTuple):
    """A contender that is ready: `call` does the work once and returns when the result is complete.

    `left_out` is the reason if the contender cannot be timed; then there is no call.
    """

    call: Callable[[], Any] | None
    device: str
    compile_s: float | None = None  # lowering and compiling
    temp_mb: float | None = None  # temporary memory of the compiled program
    decoded: Decoded | None = None
    work: Work | None = None
    left_out: str | None = None


def jitted(function: Callable, *args, most_mb: float = math.inf) -> Built:
    """Compiles a JAX function for these arguments and calls it once: its whole result must be finite.

    A function whose temporaries take more than `most_mb` is left out and not called.
    """
    import jax
    import jax.numpy as jnp

    args = jax.device_put(args)
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*args).compile()
    seconds = time.perf_counter() - start
    temp = compiled.memory_analysis().temp_size_in_bytes / 2**20
    if temp > most_mb:
        return Built(None, device(), seconds, temp, left_out=f"{temp:,.0f} MB of temporaries, {most_mb:,.0f} are free")
    for path, leaf in jax.tree_util.tree_leaves_with_path(compiled(*args)):
        if not jnp.isfinite(leaf).all():
            raise ValueError(f"result{jax.tree_util.keystr(path)} has numbers that are not finite.")
    return Built(lambda: jax.block_until_ready(compiled(*args)), device(), seconds, temp)


def eager(forward: Callable, wanted: list | None = None, dy=None) -> Built:
    """A torch function as its users run it: only its result; with `dy`, <result, dy> and its gradients by `wanted`."""
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
    """Numpy arrays as torch tensors, on the GPU if torch has one."""
    import torch

    return [torch.from_numpy(a).to("cuda" if torch.cuda.is_available() else "cpu") for a in arrays]


def device() -> str:
    """`cpu`, or the name of the accelerator that JAX computes on."""
    import jax

    first = jax.devices()[0]
    return "cpu" if first.platform == "cpu" else first.device_kind


def free_mb() -> float:
    """How many MB a program may take: four fifths of the free memory of the device on which JAX computes."""
    import jax

    stats = jax.devices()[0].memory_stats()
    if stats is not None:
        return 0.8 * (stats["bytes_limit"] - stats["bytes_in_use"]) / 2**20
    lines = Path("/proc/meminfo").read_text().splitlines()
    return 0.8 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 1024
