"""What a run records in addition to its arrays: its config, data and progress; and checks against them at a start."""

import dataclasses
import hashlib
from pathlib import Path

from seqjax import config, renamed
from seqjax.tokenizers._base import named
from seqjax.training.checkpoint import Checkpoints
from seqjax.training.experiment import Experiment, resolve
from seqjax.training.records import Status
from seqjax.training.workdir import Workdir
from seqjax.types import CheckpointError, ConfigError, WorkdirError

# If one of these changes, the run folder would continue with another experiment.
DATA_KEYS = (
    "seed",
    "data.",
    "task.",
    "loader.batch_size",
    "loader.buckets",
    "loader.places",
    "loader.too_long",
    "init.",
)
PLACES = ("data.dir",)  # except these: a fingerprint shows whether the data are the same
# Options of a model that do not change what it computes, except for rounding and dropout in training.
FREE = ("backend", "max_length", "dropout", "dtype", "remat")
RESTART = "choose another --workdir, or pass --restart to delete its checkpoints and begin at step 0"
# Keys of optim that decide the learning rate, together with train.steps.
SCHEDULE = ("learning_rate", "schedule", "warmup_steps", "final_scale")


@dataclasses.dataclass
class Progress:
    """What the host knows about a run in addition to the arrays; it is saved with them."""

    seconds: float = 0.0  # of training, without evaluation and saving
    best: float | None = None
    best_step: int | None = None
    stale: int = 0  # evaluations since the best
    owed: bool = False  # a signal interrupted the evaluation of this step
    rollbacks: int = 0
    passed: int = 0  # batches that rollbacks skipped: step + passed batches have been read


def finished(experiment: Experiment, workdir: Workdir) -> int | None:
    """The last step, if exactly this run is already done here (`data.dir` may differ); else None."""
    status, old = workdir.record("status.json", Status), _held(workdir)
    if old is None or not status or status.status != "done" or workdir.metrics().damage:  # the next start repairs it
        return None
    return status.step if set(config.differences(old, experiment.config)) <= {*PLACES} else None


def changes(experiment: Experiment, workdir: Workdir, restart: bool) -> dict:
    """The config keys that differ from config.json in the folder: key -> [old, new].

    Raises:
      CheckpointError: the data or their order differ.
      WorkdirError: there are checkpoints, but no config to compare with.
    """
    if restart:
        return {}
    if (old := _held(workdir)) is None:
        if Checkpoints(workdir.checkpoints).steps():
            raise WorkdirError(
                f"{workdir.path} has checkpoints but no config.json, so their config is unknown: "
                "restore the file (--print_config shows what a command writes there), or choose another --workdir."
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
    """The config of the run in this folder, with the defaults of keys that were added later.

    Raises:
      ConfigError: the folder has no run.
      WorkdirError: its config is damaged or not valid.
    """
    tree = workdir.config()
    try:
        return resolve(tree)
    except ConfigError as error:
        raise WorkdirError(f"{workdir.path / 'config.json'}: {error}") from error


def _other(key: str, before, now) -> CheckpointError:
    return CheckpointError(
        f"{key} was {before!r} and is now {now!r}, which would make another experiment of this run: {RESTART}."
    )


def _of_data(key: str) -> bool:
    return key.startswith(DATA_KEYS) and key not in PLACES


def _of_model(key: str) -> bool:
    return key.startswith(("model.", "task.head.")) and not key.endswith(FREE)


def apart(meta: dict, experiment: Experiment, workdir: Workdir | None) -> dict[str, tuple]:
    """The keys in which the config of a checkpoint differs from that of an experiment: key -> (then, now).

    Older checkpoints hold no config: then the config of their folder is compared, or nothing.
    """
    saved = meta["config"]
    if not isinstance(saved, dict):
        saved = workdir and workdir.read("config.json")
    return config.differences(resolve(saved), experiment.config) if saved else {}


def check_goes_on(meta: dict, experiment: Experiment, workdir: Workdir) -> None:
    """Raises CheckpointError if the model or the data are others, even if all arrays have the same shapes."""
    for key, pair in apart(meta, experiment, workdir).items():
        if _of_data(key) or _of_model(key):
            raise _other(key, *pair)


def check_folder(meta: dict, experiment: Experiment, workdir: Workdir) -> None:
    """Raises CheckpointError if config.json was edited such that the checkpoint computes something else.

    A text in `data` may differ, as files may move: `check_data` finds out whether the data are the same.
    """
    for key, (then, now) in apart(meta, experiment, workdir).items():
        moved = key.startswith("data.") and str in (type(then), type(now))
        if _of_model(key) or (key.startswith(("data.", "task.")) and not moved):
            raise CheckpointError(
                f"{workdir.path / 'config.json'} has {key}={now!r}, but step {meta['step']} was trained with {then!r}: "
                "set the old value again."
            )


def other_model(meta: dict, experiment: Experiment) -> list[str]:
    """How the model of another run differs from that of this experiment, although the parameters fit: one text each."""
    try:
        differ = apart(meta, experiment, None)
    except ConfigError as error:
        return [f"its config cannot be read here, so the models are not compared: {error}"]
    found = [f"{key} was {then!r} there and is {now!r} here" for key, (then, now) in differ.items() if _of_model(key)]
    now = meanings(experiment.source)
    return found + [
        f"{kind} stood for something else there (init.fresh gives the modules that use them random parameters)"
        for kind, then in meta["data"].get("meanings", {}).items()
        if None not in (then, now[kind]) and then != now[kind]
    ]


def check_tokenizer(meta: dict, experiment: Experiment) -> None:
    """Raises ConfigError if a run would begin with all parameters of another run, whose tokens are not its own."""
    then, now = meta["data"].get("tokenizer"), experiment.tokenizer and named(experiment.tokenizer)
    if then != now and not experiment.init.fresh:
        raise ConfigError(
            f"init.run={experiment.init.run} reads tokens of another tokenizer ({then or 'none was trained'} there, "
            f"{now or 'none'} here): set data.tokenizer as there, or give the modules that use tokens random "
            "parameters with init.fresh."
        )


def check_left(changes: dict, step: int, steps: int, folder: Path) -> None:
    """Raises ConfigError if no step is left, so that the changes would have no effect."""
    idle = [key for key in changes if key not in PLACES]
    if step > steps or (step == steps and idle):
        why = f", and {', '.join(idle)} would change nothing" if step == steps else ""
        raise ConfigError(
            f"{folder} is at step {step} of train.steps={steps}{why}: ask for more steps, or choose another --workdir."
        )


def meanings(source) -> dict[str, str | None]:
    """sha256 of the meanings of a source's tokens and of its classes; None: the source does not tell them."""
    told = {"tokens": source.meaning(), "classes": getattr(source, "classes", None)}
    return {kind: said and hashlib.sha256(repr(list(said)).encode()).hexdigest() for kind, said in told.items()}


def rate_change(changes: dict, experiment: Experiment, step: int) -> dict:
    """The change of the learning rate at `step` that the other changes cause; {} if it stays the same."""
    optim, steps = experiment.optim, experiment.train.steps
    old = {key: pair[0] for key, pair in changes.items()}
    before = dataclasses.replace(optim, **{k: old[f"optim.{k}"] for k in SCHEDULE if f"optim.{k}" in old})
    schedules = before.rate(old.get("train.steps", steps)), optim.rate(steps)
    was, now = (float(f"{float(rate(step - 1)):.4g}") for rate in schedules)  # steps are counted from 0
    return {} if was == now else {f"learning rate at step {step}": [was, now]}


def fingerprint(experiment: Experiment) -> dict:
    """What distinguishes training data under the same config: the number of records, a hash of the first batch, the
    meanings of tokens and classes, the name of the tokenizer, and hashes of text and labels if the model counts."""
    h, first = hashlib.sha256(), experiment.batches.first
    for name, array in sorted((renamed.ARRAYS.get(name, name), array) for name, array in first.items()):
        h.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    source = experiment.source
    content = experiment.tokenizer
    found = {"records": source.size("train"), "first": h.hexdigest(), "meanings": meanings(source)}
    found["tokenizer"] = content and named(content)
    if experiment.model.counted:
        tokens_M, start_M, label_M = experiment.model.documents()
        whole = tokens_M.astype("<i8").tobytes() + start_M.tobytes()
        found["counted"] = hashlib.sha256(whole).hexdigest()
        found["labels"] = None if label_M is None else hashlib.sha256(label_M.astype("<i4").tobytes()).hexdigest()
    return found


def check_data(saved: dict, now: dict, otherwise: str) -> None:
    """Raises CheckpointError if the fingerprint that a checkpoint saved is not that of the data now.

    `otherwise`: another way to go on.
    """
    if saved == {key: now[key] for key in saved}:  # older checkpoints save fewer keys
        return
    count = lambda n: "endless" if n is None else f"{n:,} records"
    if saved.get("tokenizer") != now["tokenizer"]:
        found = f"the tokenizer was {saved.get('tokenizer')} and is now {now['tokenizer']}"
    elif saved["records"] != now["records"]:
        found = f"the training data were {count(saved['records'])} and are now {count(now['records'])}"
    elif saved["first"] != now["first"]:
        found = "the first batch of the training data has changed"
    elif saved.get("counted") != now.get("counted"):
        found = "the text that was counted has changed"
    elif saved.get("labels", now.get("labels")) != now.get("labels"):
        found = "the classes of the texts that were counted have changed"
    else:
        found = "the tokens or classes of the training data now stand for something else"
    raise CheckpointError(f"{found}: restore the data that it was trained on{otherwise}.")
