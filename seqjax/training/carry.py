"""Whether a model's state can be carried from batch to batch."""

import jax

from seqjax.data import Streams
from seqjax.types import ConfigError


def check(model, source, loader) -> None:
    """Raises ConfigError if there is no state to carry, or if a stream is too long for the cache."""
    streams = [Streams(source, split, loader) for split in source.spec.splits]
    try:
        jax.eval_shape(lambda: model.init_state(loader.batch_size))
    except ValueError as error:
        raise ConfigError(f"task.carry_state needs a model with a state: {error}") from error
    most = model.capacity
    for stream in streams:
        if most is not None and stream.longest > most:
            raise ConfigError(
                f"task.carry_state: a row of split {stream.split!r} reads {stream.longest:,} tokens of one document, "
                f"but the attention cache holds {most:,}: raise model.mixer.max_length, or use mixers whose state "
                "does not grow."
            )
