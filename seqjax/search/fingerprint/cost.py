"""Measures time and memory of one model on sequences of one length."""

import time

import jax
import jax.numpy as jnp

from seqjax.search import match
from seqjax.tasks import Reads
from seqjax.training import cost
from seqjax.training.experiment import Experiment
from seqjax.training.net import Net

REPEATS = 5  # least number of repeats of each measurement
SECONDS = 0.5  # repeats go on until this time has passed
TOKENS = 16  # decoded after those of the batch


def measure(experiment: Experiment) -> dict[str, float]:
    """Measures what one batch costs.

    In seconds (medians): a training step, prefill (reading the batch into a state), and decoding one more token. In
    bytes: XLA's temporaries of a training step and of prefill, and the state of one row.

    The capacity of the states must be the length of the batch plus TOKENS.
    """
    batch = jax.device_put(experiment.batches.first)
    train, *args = match.compiled(experiment, experiment.program(), batch)
    median = lambda once: match.median(once, REPEATS, SECONDS)
    params, model = args[0].params, experiment.model
    tokens_BL = experiment.task.reads(batch).x
    token_B = tokens_BL[:, -1]
    empty = model.init_state(len(tokens_BL))
    read = lambda params, tokens_BL, state: Net(model, params)(Reads(tokens_BL, None), state)[:2]
    prefill = jax.jit(read).lower(params, tokens_BL, empty).compile()
    _, full = prefill(params, tokens_BL, empty)
    one = lambda params, token_B, state: Net(model, params).step(token_B, state)
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
        "train_s": median(lambda: match.timed(train, *args)),
        "prefill_s": median(lambda: match.timed(prefill, params, tokens_BL, empty)),
        "decode_s": median(decoded),
        "train_bytes": train.memory_analysis().temp_size_in_bytes,
        "prefill_bytes": prefill.memory_analysis().temp_size_in_bytes,
        "state_bytes": cost.nbytes(model.init_state(1)),
    }
