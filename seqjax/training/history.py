"""What is known of a run beyond its arrays: from earlier starts, and from the steps so far."""

import dataclasses
import hashlib
from pathlib import Path

from seqjax import config
from seqjax.training.checkpoint import Checkpoints
from seqjax.training.experiment import Experiment, resolve
from seqjax.training.records import Status
from seqjax.training.workdir import Workdir
from seqjax.types import CheckpointError, ConfigError, WorkdirError

# Changing one of these would continue another experiment under the same name.
DATA_KEYS = ("seed", "data.", "task.", "loader.batch", "loader.buckets", "loader.overlong", "init.")
PLACES = ("data.dir",)  # but for these: whether the data there are the same is looked at
# Of a model's options, those that leave what it computes alone, but for rounding and what is dropped in training.
FREE = ("backend", "context", "dropout", "dtype", "remat")


@dataclasses.dataclass
class Progress:
    """What the host knows of a run beyond the arrays; saved with them."""

    seconds: float = 0.0  # of training, without evaluation and saving
    best: float | None = None
    best_step: int | None = None
    stale: int = 0  # evaluations since the best
    owed: bool = False  # an evaluation of this step that a signal cut short
    rollbacks: int = 0
    passed: int = 0  # batches that rollbacks passed over: step + passed have been seen


def finished(experiment: Experiment, workdir: Workdir) -> int | None:
    """The last step, if exactly this run is already done here, be its data elsewhere now; else None."""
    status, old = workdir.record("status.json", Status), _held(workdir)
    if old is None or not status or status.status != "done" or workdir.metrics().damage:  # the next start mends it
        return None
    return status.step if set(config.differences(old, experiment.config)) <= {*PLACES} else None


def changes(experiment: Experiment, workdir: Workdir, restart: bool) -> dict:
    """What differs from the config that the folder was made with.

    Raises:
      CheckpointError: other data or another order of them.
      WorkdirError: there are checkpoints, and no config that they could be compared by.
    """
    if restart:
        return {}
    if (old := _held(workdir)) is None:
        if Checkpoints(workdir.checkpoints).steps():
            raise WorkdirError(
                f"{workdir.path} has checkpoints but no config.json, so nothing says what they were trained with: "
                "restore it (--print_config shows what a command writes there), or choose another --workdir."
            )
        return {}
    found = config.differences(old, experiment.config)
    for key, (before, now) in found.items():
        if key.startswith(DATA_KEYS) and key not in PLACES and Checkpoints(workdir.checkpoints).steps():
            raise _other(key, before, now)
    return {key: list(pair) for key, pair in found.items()}


def _held(workdir: Workdir) -> dict | None:
    return None if workdir.read("config.json") is None else config_of(workdir)


def config_of(workdir: Workdir) -> dict:
    """The config of the run that lives here, with the defaults of keys that are younger.

    Raises:
      ConfigError: no run lives here.
      WorkdirError: its config is damaged, or none.
    """
    tree = workdir.config()
    try:
        return resolve(tree)
    except ConfigError as error:
        raise WorkdirError(f"{workdir.path / 'config.json'}: {error}") from error


def _other(key: str, before, now) -> CheckpointError:
    return CheckpointError(
        f"{key} was {before!r} and is now {now!r}: this would be another experiment in the same run; "
        "choose another --workdir, or pass --restart to begin at step 0."
    )


def check_same(changes: dict, step: int, steps: int, folder: Path) -> None:
    """Refuses what may not change when a run goes on at `step`, though all arrays have kept their shapes.

    Raises:
      CheckpointError: another model.
      ConfigError: there is no step left that could be changed.
    """
    for key, pair in changes.items():
        if key.startswith("model") and not key.endswith(FREE):
            raise _other(key, *pair)
    idle = [key for key in changes if key not in PLACES]
    if step > steps or (step == steps and idle):
        why = f", and {', '.join(idle)} would change nothing" if step == steps else ""
        raise ConfigError(
            f"{folder} is at step {step} of train.steps={steps}{why}: ask for more steps, or choose another --workdir."
        )


def fingerprint(experiment: Experiment) -> dict:
    """What tells the training data from others under the same config: their number, and the first batch of them."""
    h = hashlib.sha256()
    for name, array in sorted(experiment.batches.first.items()):
        h.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return {"records": experiment.source.size("train"), "first": h.hexdigest()}


def check_data(saved: dict, now: dict, otherwise: str) -> None:
    """Holds the data that a checkpoint was trained on against those at hand; `otherwise`: what to do about others.

    Raises:
      CheckpointError: they are others.
    """
    if saved == now:
        return
    count = lambda n: "endless" if n is None else f"{n:,} records"
    if saved["records"] != now["records"]:
        found = f"the training data were {count(saved['records'])} and are now {count(now['records'])}"
    else:
        found = "the first batch of the training data is not what it was"
    raise CheckpointError(f"{found}: put back what it began with{otherwise}.")
