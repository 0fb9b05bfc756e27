"""Measures time and memory of one model on sequences of one length."""

import statistics
import time

import jax
import jax.numpy as jnp

from seqjax.training import cost
from seqjax.training.experiment import Experiment
from seqjax.training.step import make_train_step, zero_totals

REPEATS = 5  # least number of repeats of each measurement
SECONDS = 0.5  # repeats go on until this time has passed
TOKENS = 16  # decoded after those of the batch


def step_seconds(experiment: Experiment) -> float:
    """The time of one training step."""
    train, args = _train(experiment)
    return _median(lambda: _timed(train, *args))


def measure(experiment: Experiment) -> dict[str, float]:
    """Measures what one batch costs.

    In seconds (medians): a training step, prefill (reading the batch into a state), and decoding one more token. In
    bytes: XLA's temporaries of a training step and of prefill, and the state of one row.

    The capacity of the states must be the length of the batch plus TOKENS.
    """
    train, args = _train(experiment)
    state, _, batch = args
    params, model = {"params": state.params}, experiment.model
    tokens_BL = experiment.task.reads(batch).x
    token_B = tokens_BL[:, -1]
    empty = model.init_state(len(tokens_BL))
    prefill = jax.jit(model.apply).lower(params, tokens_BL, empty).compile()
    _, full = prefill(params, tokens_BL, empty)
    one = lambda params, token_B, state: model.apply(params, token_B, state, method="step")
    # The state is donated, as in `decoding`: the cache is updated in place, not copied.
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
    """The compiled training step and its arguments."""
    batch, state = jax.device_put(e.batches.first), e.make_state()
    step = make_train_step(e.model, e.task, e.tx)
    args = state, zero_totals(step, state, batch), batch
    return jax.jit(step).lower(*args).compile(), args


def _timed(function, *args) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function(*args))
    return time.perf_counter() - start


def _median(once) -> float:
    """The median of the times that `once` returns; the first call does not count."""
    once()
    found: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(found) < REPEATS or time.perf_counter() < end:
        found.append(once())
    return statistics.median(found)
