"""Time and memory of one model against the length of what it reads."""

import statistics
import time

import jax
import jax.numpy as jnp

from seqjax.training import cost
from seqjax.training.experiment import Experiment
from seqjax.training.step import make_train_step, zero_totals

REPEATS = 5  # of each at least,
SECONDS = 0.5  # and more until so long has passed
TOKENS = 16  # decoded behind the batch's


def step_seconds(experiment: Experiment) -> float:
    """What one training step takes."""
    train, args = _train(experiment)
    return _median(lambda: _timed(train, *args))


def measure(experiment: Experiment) -> dict[str, float]:
    """What one batch costs: in seconds (medians) a training step, reading it into a state, and one token more;
    in bytes XLA's temporaries of a training step and of reading, and the state of one row.

    The states must have room for TOKENS more than the batch is long.
    """
    train, args = _train(experiment)
    state, _, batch = args
    params, model = {"params": state.params}, experiment.model
    tokens_BL, token_B = experiment.task.inputs(batch)[0], batch["tokens"][:, -1]
    empty = model.init_state(len(tokens_BL))
    prefill = jax.jit(model.apply).lower(params, tokens_BL, empty).compile()
    _, full = prefill(params, tokens_BL, empty)
    one = lambda params, token_B, state: model.apply(params, token_B, state, method="step")
    # The state is given away, as in `decoding`: a cache is written into, not copied.
    decode = jax.jit(one, donate_argnums=2).lower(params, token_B, full).compile()

    def decoded():
        state = jax.block_until_ready(jax.tree.map(jnp.copy, full))
        start = time.perf_counter()
        for _ in range(TOKENS):
            logits_BV, state = decode(params, token_B, state)
        jax.block_until_ready((logits_BV, state))
        return (time.perf_counter() - start) / TOKENS

    return {
        "train_s": _median(lambda: _timed(train, *args)),
        "prefill_s": _median(lambda: _timed(prefill, params, tokens_BL, empty)),
        "decode_s": _median(decoded),
        "train_bytes": train.memory_analysis().temp_size_in_bytes,
        "prefill_bytes": prefill.memory_analysis().temp_size_in_bytes,
        "state_bytes": cost.nbytes(model.init_state(1)),
    }


def _train(e: Experiment):
    """The compiled training step, and what it is called with."""
    batch, state = jax.device_put(e.batches.first), e.make_state()
    step = make_train_step(e.model, e.task, e.tx)
    args = state, zero_totals(step, state, batch), batch
    return jax.jit(step).lower(*args).compile(), args


def _timed(function, *args) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function(*args))
    return time.perf_counter() - start


def _median(once) -> float:
    """The median of what `once` says it took; the first call does not count."""
    once()
    found: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(found) < REPEATS or time.perf_counter() < end:
        found.append(once())
    return statistics.median(found)
