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
DATA_KEYS = ("seed", "data.", "task.", "loader.batch_size", "loader.buckets", "loader.too_long", "init.")
PLACES = ("data.dir",)  # but for these: whether the data there are the same is looked at
# Of a model's options, those that leave what it computes alone, but for rounding and what is dropped in training.
FREE = ("backend", "max_length", "dropout", "dtype", "remat")
RESTART = "choose another --workdir, or pass --restart to delete its checkpoints and begin at step 0"
SCHEDULE = (
    "learning_rate",
    "schedule",
    "warmup_steps",
    "final_scale",
)  # of optim: with train.steps they decide about the learning rate


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
    found, checkpoints = config.differences(old, experiment.config), Checkpoints(workdir.checkpoints)
    for key, (before, now) in found.items():
        if _of_data(key) and checkpoints.used():
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
        f"{key} was {before!r} and is now {now!r}: this would be another experiment in the same run; {RESTART}."
    )


def _of_data(key: str) -> bool:
    return key.startswith(DATA_KEYS) and key not in PLACES


def _of_model(key: str) -> bool:
    return key.startswith("model.") and not key.endswith(FREE)


def apart(meta: dict, experiment: Experiment, workdir: Workdir | None) -> dict[str, tuple]:
    """What a checkpoint was trained with, and what an experiment has instead: key -> (then, now).

    Checkpoints of before they kept their config are held against that of their folder, or against nothing.
    """
    saved = meta["config"]
    if not isinstance(saved, dict):
        saved = workdir and workdir.read("config.json")
    return config.differences(resolve(saved), experiment.config) if saved else {}


def check_goes_on(meta: dict, experiment: Experiment, workdir: Workdir) -> None:
    """Refuses to go on with another model or other data than before, though all arrays have kept their shapes.

    Raises:
      CheckpointError: names what is other.
    """
    for key, pair in apart(meta, experiment, workdir).items():
        if _of_data(key) or _of_model(key):
            raise _other(key, *pair)


def check_folder(meta: dict, experiment: Experiment, workdir: Workdir) -> None:
    """Refuses a config.json that was changed, where that changes what the checkpoint computes, or on what.

    A text in `data` may be another, as files may move: whether the data are the same is looked at.

    Raises:
      CheckpointError: names what was changed.
    """
    for key, (then, now) in apart(meta, experiment, workdir).items():
        moved = key.startswith("data.") and str in (type(then), type(now))
        if _of_model(key) or (key.startswith(("data.", "task.")) and not moved):
            raise CheckpointError(
                f"{workdir.path / 'config.json'} has {key}={now!r}, and step {meta['step']} was trained with {then!r}: "
                "put that back."
            )


def other_model(meta: dict, experiment: Experiment) -> list[str]:
    """What the model of another run computed otherwise than that of this experiment, though the parameters fit."""
    try:
        differ = apart(meta, experiment, None)
    except ConfigError as error:
        return [f"its config means nothing here, so the models are not compared: {error}"]
    found = [f"{key} was {then!r} there, is {now!r}" for key, (then, now) in differ.items() if _of_model(key)]
    now = meanings(experiment.source)
    return found + [
        f"{kind} stood for something else there (what reads or writes them can begin anew: init.fresh)"
        for kind, then in meta["data"].get("meanings", {}).items()
        if None not in (then, now[kind]) and then != now[kind]
    ]


def check_left(changes: dict, step: int, steps: int, folder: Path) -> None:
    """Refuses changes that would come too late.

    Raises:
      ConfigError: there is no step left that could be changed.
    """
    idle = [key for key in changes if key not in PLACES]
    if step > steps or (step == steps and idle):
        why = f", and {', '.join(idle)} would change nothing" if step == steps else ""
        raise ConfigError(
            f"{folder} is at step {step} of train.steps={steps}{why}: ask for more steps, or choose another --workdir."
        )


def meanings(source) -> dict[str, str | None]:
    """sha256 of what the tokens of a source stand for, and of its classes; None: it does not say."""
    told = {"tokens": source.meaning(), "classes": getattr(source, "classes", None)}
    return {kind: said and hashlib.sha256(repr(list(said)).encode()).hexdigest() for kind, said in told.items()}


def rate_change(changes: dict, experiment: Experiment, step: int) -> dict:
    """The learning rate at `step` before the changes and with them, as one more change; {} if it stays the same."""
    optim, steps = experiment.optim, experiment.train.steps
    old = {key: pair[0] for key, pair in changes.items()}
    before = dataclasses.replace(optim, **{k: old[f"optim.{k}"] for k in SCHEDULE if f"optim.{k}" in old})
    schedules = before.rate(old.get("train.steps", steps)), optim.rate(steps)
    was, now = (float(f"{float(rate(step - 1)):.4g}") for rate in schedules)  # steps are counted from 0
    return {} if was == now else {f"learning rate at step {step}": [was, now]}


def fingerprint(experiment: Experiment) -> dict:
    """What tells the training data from others under the same config: their number, the first batch of them, and what
    the numbers in it stand for."""
    h = hashlib.sha256()
    for name, array in sorted(experiment.batches.first.items()):
        h.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    source = experiment.source
    return {"records": source.size("train"), "first": h.hexdigest(), "meanings": meanings(source)}


def check_data(saved: dict, now: dict, otherwise: str) -> None:
    """Holds the data that a checkpoint was trained on against those at hand; `otherwise`: what to do about others.

    Raises:
      CheckpointError: they are others.
    """
    if saved == {key: now[key] for key in saved}:  # older ones say less
        return
    count = lambda n: "endless" if n is None else f"{n:,} records"
    if saved["records"] != now["records"]:
        found = f"the training data were {count(saved['records'])} and are now {count(now['records'])}"
    elif saved["first"] != now["first"]:
        found = "the first batch of the training data is not what it was"
    else:
        found = "the tokens or classes of the training data stand for something else"
    raise CheckpointError(f"{found}: put back what it began with{otherwise}.")
