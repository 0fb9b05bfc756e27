"""Checks that a run that is killed and resumed ends with the same bits as a run that is not interrupted."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from seqjax import config, machine, runtime
from seqjax.training import history, tokenizer_file
from seqjax.training import run as training_run
from seqjax.training.checkpoint import Checkpoints
from seqjax.training.experiment import Experiment, resolve
from seqjax.training.files import SEAL
from seqjax.training.journal import Journal
from seqjax.training.records import Info
from seqjax.training.stored import digest
from seqjax.training.workdir import Workdir
from seqjax.types import CheckpointError, ConfigError, SeqjaxError

WHOLE = 60.0  # seconds in which the first checkpoint must be on disk
SAID = "seqjax: "
CLOCK = ("seconds", "tokens_per_s", "steps_per_s", "jit_compiles", SEAL)  # they differ between starts


class Verdict(NamedTuple):
    """`kills`: the steps at which the second run was killed. `digest`: the digest of the final state of both runs."""

    steps: int
    kills: list[int]
    digest: str


def shortened(tree: dict, steps: int, kills: int) -> dict:
    """Cuts a resolved config to `steps` steps. Between kills there are two checkpoints, each within a log interval.

    Raises:
      ConfigError: no kill, or too few steps for the kills.
    """
    tree = json.loads(json.dumps(tree))
    train = tree["train"]
    k = train["steps_per_call"]
    wanted = max(kills, 1)
    least = 2 * (wanted + 1) * k
    if kills < 1 or steps < least:
        raise ConfigError(
            f"got {kills} kills in {steps} steps: wanted at least 1 kill, and for {wanted} at least {least} steps."
        )
    whole = lambda n: n // k * k
    saves = steps // k // (2 * (kills + 1))
    odd = saves - (1 - saves % 2)  # log lines come with every second call
    train.update(steps=whole(steps), log_every=2 * k, checkpoint_every=odd * k, patience=None)
    train["eval_every"] = min(train["eval_every"], whole(steps // 3)) if train["eval_every"] else None
    tree["optim"]["warmup_steps"] = min(tree["optim"]["warmup_steps"], train["steps"])
    for group in tree["optim"]["groups"]:
        group["from_step"] = min(group["from_step"], train["steps"] // 2)
    return resolve(tree)


def logged(train: dict) -> range:
    """The steps after the first checkpoint at which log lines are written, except the last step."""
    return range(train["checkpoint_every"] + train["steps_per_call"], train["steps"], train["log_every"])


def verify(tree: dict, folder: Path, *, steps: int, kills: int, seed: int, say=print) -> Verdict:
    """Trains a config twice in child processes: once straight, and once killed (SIGKILL) at random steps.

    Writes into `folder`: config.json, which both runs use, and their run folders, straight/ and killed/.

    Raises:
      ConfigError: too few steps for the kills, or no kill; `folder` holds an earlier proof or a run.
      CheckpointError: the two runs differ; the error says from which step on.
      WorkdirError: `folder` cannot be written, or another process works in it.
      SeqjaxError: a run ended with an error (of the same kind), or a start after a kill did not begin at a checkpoint.
    """
    tree = shortened(tree, steps, kills)
    train = tree["train"]
    steps = train["steps"]
    file, straight, killed = (folder / name for name in ("config.json", "straight", "killed"))
    for old in (file, straight, killed):
        if old.exists():
            raise ConfigError(
                f"{folder} holds an earlier proof or a run ({old.name}): choose another --workdir, or delete it."
            )
    holder = Workdir(folder).lock()
    holder.write(file.name, tree)
    say(f"training {steps} steps straight")
    _run(file, straight)
    at = sorted(random.Random(seed).sample(logged(train), kills))
    for step in at:
        say(f"training until it is killed at step {step}")
        _run(file, killed, step)
    say("training to the end")
    _run(file, killed)
    holder.unlock()
    begun = [start["step"] for start in Workdir(killed).record("run.json", Info).starts]
    if 0 in begun[1:]:
        raise SeqjaxError(
            f"the starts after kills began at steps {begun[1:]}: step 0 is not a checkpoint, so nothing is proved."
        )
    return Verdict(steps, at, compare(straight, killed))


def compare(straight: Path, killed: Path) -> str:
    """The digest of the final state, which must be the same in both folders.

    Raises:
      CheckpointError: they differ; the error names the first step with other metrics, the arrays and the metadata.
    """
    rows, others = _rows(straight), _rows(killed)
    first, other = next(((a, b) for a, b in zip(rows, others, strict=False) if a != b), (None, None))
    found = []
    if first is not None:
        names = [k for k in first if first[k] != other.get(k)]
        values = ", ".join(f"{k} {first[k]} and {other.get(k)}" for k in names)
        found.append(f"metrics from step {first['step']} ({first['split']}) on: {values}")
    elif len(rows) != len(others):
        found.append(f"{len(rows)} rows of metrics and {len(others)}")
    (state, meta), (other, about) = last(straight), last(killed)
    pairs = zip(jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(other), strict=True)
    apart = [jax.tree_util.keystr(path) for (path, a), b in pairs if np.asarray(a).tobytes() != np.asarray(b).tobytes()]
    if apart:
        found.append(f"{len(apart)} arrays of the state, the first of them {apart[0]}")
    for one in (meta, about):
        one["progress"].pop("seconds")
    meta["best"], about["best"] = (Checkpoints(Workdir(run).best).steps() for run in (straight, killed))
    beside = config.differences(meta, about) if not apart else {}  # the metadata has checksums of the arrays
    found += [f"{key} {a!r} and {b!r}" for key, (a, b) in beside.items()]
    if found:
        raise CheckpointError(f"the straight run and the killed run differ: {'; '.join(found)}.{_hint()}")
    return digest(state)


def _hint() -> str:
    """What may help if bits differ: a GPU adds up in any order where many add to one place, as to a row of a table."""
    if jax.default_backend() != "gpu" or "deterministic_ops" in os.environ.get("XLA_FLAGS", ""):
        return ""
    return f" On a GPU, XLA adds up some gradients in an order that changes, unless XLA_FLAGS={machine.ONE_ORDER}."


def child(file: str, folder: str, kill: int | None) -> None:
    """Trains in this process. The process kills itself as soon as it has logged step `kill`.

    Before that it waits for the first checkpoint, which may not be on disk yet.
    """
    write, workdir = Journal.write, Workdir(folder)

    def deadly(self, row):
        write(self, row)
        if kill is not None and row["step"] >= kill:
            end = time.monotonic() + WHOLE
            while not Checkpoints(workdir.checkpoints).steps() and time.monotonic() < end:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)

    Journal.write = deadly
    runtime.setup()
    try:
        tree = resolve(config.load(file))
        experiment = Experiment(tree, saved=tokenizer_file.to_read(tree, workdir))
        training_run.train(experiment, workdir, command="seqjax verify-resume", quiet=True)
    except SeqjaxError as error:
        print(f"{SAID}{error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _run(file: Path, folder: Path, kill: int | None = None) -> None:
    """Runs `child` in another process, and checks the exit code."""
    code = f"from seqjax import verify; verify.child({str(file)!r}, {str(folder)!r}, {kill})"
    done = subprocess.run([sys.executable, "-P", "-c", code], stderr=subprocess.PIPE, text=True)
    if done.returncode == (0 if kill is None else -signal.SIGKILL):
        return
    kind = next((k for k in SeqjaxError.__subclasses__() if k.exit_code == done.returncode), None)
    if kind is not None:
        raise kind(done.stderr.rpartition(SAID)[2].strip())
    said = done.stderr.strip().splitlines() or ["nothing"]
    raise SeqjaxError(f"a run ended with code {done.returncode}, and its last line was: {said[-1]}")


def _rows(folder: Path) -> list[dict]:
    return [{k: v for k, v in row.items() if k not in CLOCK} for row in Workdir(folder).whole().rows]


def last(folder: Path):
    """The newest checkpoint of a run: its state and its metadata."""
    workdir = Workdir(folder)
    e = Experiment(history.config_of(workdir), saved=tokenizer_file.of_run(workdir))
    layout = e.parallel.layout(e.loader.batch_size, e.train.accumulation_steps)
    return Checkpoints(workdir.checkpoints).restore(layout.abstract(e.shapes))
