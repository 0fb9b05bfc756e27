"""Measures the cost of a config, and solves for the size of the model at which the cost equals a target.

    size = measure(tree)                                   parameters, FLOPs, bytes of state and of memory, seconds
    tree, ratio = solve(tree, "state_bytes", 2048, 0.02)   the width whose state is 2,048 bytes large

FLOPs are counted as `seqjax.training.cost` describes. The bytes of the state are those of `init_state(1)` of all
layers: what a model stores about the past. For attention, this is the whole cache.
"""

import dataclasses
import functools
import math
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import jax

from seqjax import lookup
from seqjax.training import cost
from seqjax.training.experiment import Experiment
from seqjax.training.step import zero_totals
from seqjax.types import Checked, ConfigError

TIMED = 7  # timed steps per measurement
WIDEST = 2**16


@dataclasses.dataclass(frozen=True)
class Size(Checked):
    """The cost of one config. `matched` is the matched quantity divided by its target, None if nothing was matched.

    `width`: the option that decides its size (`sized_by`), which is another one for a model without layers.
    """

    width: int | None
    parameters: int
    flops: float  # of the matrix products of one training step, on average
    tokens: int  # of one step, on average
    state_bytes: int | None  # of one sequence; None: a layer has no state, it reads whole sequences
    temporary_bytes: int | None  # peak of a training step, without parameters, optimiser and batch
    step_seconds: float  # median, with nothing else running on this machine
    matched: float | None = None
    parameter_bytes: int | None = None  # with the indices of tables; None: stored by an older version


def measure(tree: dict, matched: float | None = None) -> Size:
    """Builds a resolved config, compiles its step and runs it a few times."""
    e = Experiment(tree)
    longest, _ = e.batches.kinds[-1]
    program, *args = compiled(e, e.program(), longest)
    memory = program.memory_analysis()
    return Size(
        width=tree["model"].get(sized_by(tree)),
        parameters=parameters(e),
        flops=flops(e),
        tokens=round(e.batches.tokens),
        state_bytes=state_bytes(e),
        temporary_bytes=memory.temp_size_in_bytes if memory else None,
        step_seconds=_seconds(program, *args) if len(e.batches.kinds) == 1 else step_seconds(e),
        matched=matched,
        parameter_bytes=parameter_bytes(e),
    )


def parameters(experiment: Experiment) -> int:
    """The number of parameters."""
    return cost.count(experiment.shapes.params, experiment.model.indices)


def parameter_bytes(experiment: Experiment) -> int:
    """Bytes of all parameters, with the indices of tables."""
    return cost.nbytes(experiment.shapes.params)


def flops(experiment: Experiment) -> float:
    """Floating-point operations of the matrix products of a training step, on average over an epoch."""
    e, step = experiment, experiment.program()
    totals = zero_totals(step, e.shapes, e.batches.first)
    return e.batches.mean(lambda batch: cost.flops(step, e.shapes, totals, batch))


def state_bytes(experiment: Experiment) -> int | None:
    """Bytes that the layers carry from one token to the next, for one sequence; None if a layer has no state.

    Of a model without layers, it is the state of the model.
    """
    parts = experiment.model.stack(parent=None) or [experiment.model]
    try:
        return cost.nbytes(jax.eval_shape(lambda: [part.init_state(1) for part in parts]))
    except (NotImplementedError, ValueError):
        return None


def step_seconds(experiment: Experiment) -> float:
    """The median time of a few training steps, without compilation."""
    e, step = experiment, experiment.program()
    return e.batches.mean(lambda batch: _seconds(*compiled(e, step, batch)))


def sized_by(tree: dict) -> str:
    """The option of a model that decides its size: the width of a stack, the states of an HMM."""
    return lookup.find(tree["model"]["name"], "seqjax.models", "Model").sized_by


class Quantity(NamedTuple):
    """What a comparison can match: how it is measured, its field of `Size`, and its name in a sentence."""

    of: Callable[[Experiment], float | None]
    field: str
    words: str


QUANTITIES = {
    "params": Quantity(parameters, "parameters", "parameters"),
    "param_bytes": Quantity(parameter_bytes, "parameter_bytes", "bytes of parameters"),
    "flops": Quantity(flops, "flops", "training FLOPs"),
    "state_bytes": Quantity(state_bytes, "state_bytes", "state bytes"),
    "step_time": Quantity(step_seconds, "step_seconds", "time per step"),
}


def solve(
    tree: dict, match: str, target: float, tolerance: float, build: Callable[[dict], Experiment] = Experiment
) -> tuple[dict, float]:
    """The config with the `model.width` at which its `match` is nearest to `target`, and the ratio of the two.

    Of a model that another option sizes (`sized_by`), this option stands for the width. Bisection over the multiples
    of the smallest width that the model accepts (its heads must divide the width). The matched quantity must grow with
    the width.

    Raises:
      ConfigError: no width comes within `tolerance` (0.02: 2 %); the message lists the nearest widths and their gaps.
        Or the model has no width, or no such quantity.
    """
    name = sized_by(tree)
    if name not in tree["model"]:
        model = tree["model"]["name"]
        raise ConfigError(f"model.name={model!r} has no {name}, so match={match!r} is impossible: use match=None.")

    @functools.cache
    def ratio(width: int) -> float:
        value = QUANTITIES[match].of(build(resized(tree, width)))
        if value is None:
            raise ConfigError(f"{match}: a layer of this model has no state: choose another match.")
        return value / target

    unit = narrowest(tree, build)["model"][name]
    high = 1
    while ratio(high * unit) < 1:
        if high * unit > WIDEST:
            raise ConfigError(f"{match} stays below {target:g} up to {name} {WIDEST:,}: lower the target.")
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if ratio(middle * unit) < 1 else (low, middle)
    gap = lambda width: abs(ratio(width) - 1)
    near = sorted((k * unit for k in (low, high) if k), key=gap)
    if gap(near[0]) > tolerance:
        more = lambda width: "more" if ratio(width) > 1 else "less"
        values = [f"{name} {w} with {ratio(w) * target:,.6g} ({gap(w):.1%} {more(w)})" for w in near]
        steps = f" among the multiples of {unit}, which the model accepts," if unit > 1 else ""
        raise ConfigError(
            f"no {name}{steps} has {match} within {100 * tolerance:.3g}% of {target:,.6g}. Nearest: "
            f"{', '.join(values)}. To accept the nearest, set tolerance={math.ceil(gap(near[0]) * 1000) / 1000:g}; or "
            "use this contender as the target, or choose a target that it can reach."
        )
    return resized(tree, near[0]), ratio(near[0])


def resized(tree: dict, width: int) -> dict:
    """The config of a model of another size."""
    return {**tree, "model": {**tree["model"], sized_by(tree): width}}


def narrowest(tree: dict, build: Callable[[dict], Experiment] = Experiment) -> dict:
    """The config with the smallest width that the model accepts; unchanged if the model has no width."""
    if sized_by(tree) not in tree["model"]:
        return tree
    for width in range(1, 513):
        try:
            build(narrow := resized(tree, width)).shapes  # noqa: B018 some errors appear only when the model is traced
            return narrow
        except ConfigError as error:
            refused = error
    raise ConfigError(f"no model.{sized_by(tree)} from 1 to 512 is accepted: {refused}")


def compiled(e: Experiment, step, batch):
    """A step compiled for one device, and its arguments."""
    state = e.make_state()
    totals = zero_totals(step, state, batch)
    return jax.jit(step).lower(state, totals, batch).compile(), state, totals, batch


def timed(function, *args) -> float:
    """The time of one call, in seconds."""
    start = time.perf_counter()
    jax.block_until_ready(function(*args))
    return time.perf_counter() - start


def median(once: Callable[[], float], repeats: int, seconds: float = 0.0) -> float:
    """The median of at least `repeats` times that `once` returns, for `seconds`; the first call does not count."""
    once()
    found: list[float] = []
    end = time.perf_counter() + seconds
    while len(found) < repeats or time.perf_counter() < end:
        found.append(once())
    return statistics.median(found)


def _seconds(program, *args) -> float:
    return median(lambda: timed(program, *args), TIMED)
