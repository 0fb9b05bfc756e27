"""What is known of a run beyond its arrays: from earlier starts, and from the steps so far."""

import dataclasses

from seqjax import config
from seqjax.training.checkpoint import Checkpoints
from seqjax.training.experiment import Experiment
from seqjax.training.workdir import Workdir
from seqjax.types import CheckpointError

# Changing one of these would continue another experiment under the same name.
DATA_KEYS = ("seed", "data.", "task.", "loader.batch", "loader.buckets", "loader.overlong")


@dataclasses.dataclass
class Progress:
    """What the host knows of a run beyond the arrays; saved with them."""

    seconds: float = 0.0  # of training, without evaluation and saving
    best: float | None = None
    best_step: int | None = None
    stale: int = 0  # evaluations since the best


def finished(experiment: Experiment, workdir: Workdir) -> int | None:
    """The last step, if exactly this run is already done here; else None."""
    status = workdir.read("status.json")
    done = status and status["status"] == "done" and workdir.read("config.json") == experiment.config
    return status["step"] if done else None


def changes(experiment: Experiment, workdir: Workdir, restart: bool) -> dict:
    """What differs from the config that the folder was made with.

    Raises:
      CheckpointError: other data or another order of them.
    """
    old = workdir.read("config.json")
    if old is None or restart:
        return {}
    found = config.differences(old, experiment.config)
    for key, (before, now) in found.items():
        if key.startswith(DATA_KEYS) and Checkpoints(workdir.checkpoints).steps():
            raise CheckpointError(
                f"{key} was {before!r} and is now {now!r}: these would be other data in the same run; "
                "choose another --workdir, or pass --restart to begin at step 0."
            )
    return {key: list(pair) for key, pair in found.items()}
