"""Errors of others, told as our own."""

import contextlib
import re

import jax

from seqjax.training.experiment import Experiment
from seqjax.training.workdir import Workdir
from seqjax.types import ConfigError


@contextlib.contextmanager
def explained(experiment: Experiment, workdir: Workdir):
    """Around a run.

    Raises:
      ConfigError: a device ran out of memory. A restart would end in the same way: this is no crash.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        asked = re.search(r"alloc\w* ([\d.,]+ ?\w+)", str(error))
        batch, parts = experiment.loader.batch_size, experiment.train.accumulation_steps
        kept = "; the checkpoints are as they were" if any(workdir.checkpoints.glob("*")) else ""
        raise ConfigError(
            f"out of memory: {asked[1] if asked else 'more than there is'} could not be had, with loader.batch_size={batch} "
            f"in train.accumulation_steps={parts} parts: raise train.accumulation_steps, which changes nothing but rounding, or lower "
            f"loader.batch_size, or cut the model over devices with parallel.fsdp{kept}."
        ) from error
