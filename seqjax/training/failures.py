"""Translates errors of JAX into errors of seqjax."""

import contextlib
import re

import jax

from seqjax.training.experiment import Experiment
from seqjax.training.workdir import Workdir
from seqjax.types import ConfigError


@contextlib.contextmanager
def explained(experiment: Experiment, workdir: Workdir):
    """A context for a run.

    Raises:
      ConfigError: a device or this machine ran out of memory. It is no crash, as a restart would fail in the same way.
    """
    batch, parts = experiment.loader.batch_size, experiment.train.accumulation_steps
    kept = lambda: "; the checkpoints are unchanged" if any(workdir.checkpoints.glob("*")) else ""
    try:
        yield
    except MemoryError as error:
        raise ConfigError(
            f"out of memory: this machine could not allocate what the run needs{f' ({error})' if str(error) else ''}, "
            f"with loader.batch_size={batch} and loader.prefetch={experiment.loader.prefetch}: lower one of them, or "
            f"shorten the examples{kept()}."
        ) from error
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        asked = re.search(r"alloc\w* ([\d.,]+ ?\w+)", str(error))
        raise ConfigError(
            f"out of memory: a device could not allocate {asked[1] if asked else 'what the step needs'} with "
            f"loader.batch_size={batch} and train.accumulation_steps={parts}: raise train.accumulation_steps, "
            "which changes only rounding, or lower loader.batch_size, or cut the model over devices with "
            f"parallel.fsdp{kept()}."
        ) from error
