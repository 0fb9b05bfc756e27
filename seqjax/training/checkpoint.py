"""Checkpoints that are never restored wrongly in silence: one directory per step, committed by orbax with a rename.

Of several processes, each saves and restores its part; the first alone makes, renames and deletes folders.
"""

import concurrent.futures
import functools
import logging
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax

from seqjax.training import cost, processes, stored
from seqjax.training.workdir import Workdir, free
from seqjax.types import CheckpointError, ConfigError, WorkdirError

log = logging.getLogger(__name__)
_WRITER = concurrent.futures.ThreadPoolExecutor(1, "seqjax-writer")
TEMPORARY = ".orbax-checkpoint-tmp"  # how orbax names what is not yet whole
NEW = ".new"  # what a step is called that takes the place of another, until it does


def chosen(workdir: Workdir, which: str | int) -> tuple["Checkpoints", int]:
    """What "best" (on validation), "latest" or a step means in a run folder.

    Raises:
      ConfigError: no such word.
      CheckpointError: there is no checkpoint yet.
    """
    which = str(which)
    if which not in ("best", "latest") and not which.isdecimal():
        raise ConfigError(f"got checkpoint {which}, wanted best, latest or a step.")
    checkpoints = Checkpoints(workdir.best if which == "best" else workdir.checkpoints)
    steps = [int(which)] if which.isdecimal() else checkpoints.steps()
    if not steps:
        raise CheckpointError(f"no checkpoint in {checkpoints.root}: train first, or choose checkpoint latest.")
    return checkpoints, steps[0]


class Checkpoints:
    """The checkpoints of a run under `root`, one directory per step; the newest `keep` stay, and the steps `held`.

    A step that is saved once more takes the place of the old one when it is whole, and not before.

    Raises:
      WorkdirError: a save failed twice (disk full, read-only).
    """

    def __init__(self, root: Path, keep: int = 2, check: Callable[[], None] = lambda: None):
        self.root, self.keep, self.held = root, keep, ()
        self.check = check  # raises where the run folder is no longer that of the run: nothing there is touched then
        self._pending = None  # (what waits for the save, what does it again, step)

    def steps(self) -> list[int]:
        """Steps that have a directory, newest first; whether they are good is seen when they are restored."""
        if not self.root.is_dir():
            return []
        return sorted(int(p.name) for p in self.root.iterdir() if re.fullmatch(r"\d+", p.name) and p.is_dir())[::-1]

    def save(self, state, meta: dict) -> None:
        """Starts to write a state; returns while it is being written. `wait` makes sure of it."""
        self.wait()
        state, sums = stored.snapshot(state)  # queued: neither it nor what follows is waited for
        if jax.default_backend() == "cpu" and jax.device_count() > 1:
            jax.block_until_ready(sums)  # simulated devices can deadlock with collectives in a queue
        step, self._bytes = int(meta["step"]), cost.nbytes(state)
        name = f"{step}{NEW if step in self.steps() else ''}"

        def make_folder():
            self.check()
            # Where none can be made, orbax fails too, but its threads live on for five minutes.
            self.root.mkdir(exist_ok=True)  # a run folder that is gone is not made anew
            tempfile.TemporaryDirectory(suffix=TEMPORARY, dir=self.root).cleanup()

        def write():
            from orbax.checkpoint import v1 as ocp  # a second to import: only where something is saved

            processes.first(make_folder)
            about = stored.sealed(meta, state, jax.device_get(sums))
            return ocp.save_async(self.root / name, state, custom_metadata=about, overwrite=True)

        if jax.process_count() > 1:  # what they say to each other must not meet what steps do
            response = self._twice(step, write, write).result
        else:
            response = _WRITER.submit(lambda: write().result()).result
        self._pending = (response, write, step)

    def _twice(self, step: int, action, again):
        """`action()`; should it fail, in one process or more, all clean up and try `again()`."""
        try:
            return processes.together(action)
        except Exception as error:
            processes.first(self.check)
            log.warning("saving step %d failed (%s), trying again", step, error)
            self._clean()
            try:
                return processes.together(again)
            except Exception as failed:
                self._clean()
                reason = str(failed).strip().split("\n")[0]
                raise WorkdirError(
                    f"cannot save step {step} ({self._bytes:,} bytes) to {self.root} ({free(self.root)}): {reason}; "
                    "make room and run the same command again."
                ) from failed

    def wait(self) -> None:
        """Blocks until the last save stands on disk; it and the newest others stay, `keep` in all."""
        if self._pending is None:
            return
        (response, write, step), self._pending = self._pending, None
        self._twice(step, response, lambda: write().result())
        self._replace()
        self._remove(lambda: [self.root / str(s) for s in self.steps() if s not in (step, *self.held)][self.keep - 1 :])

    def tidy(self) -> None:
        """Ends what a killed process had begun: half a save goes, a whole one takes its place."""
        self._clean()
        self._replace()

    def _clean(self) -> None:
        self._remove(lambda: self.root.glob(f"*{TEMPORARY}*"))

    def _replace(self) -> None:
        def replace():
            self.check()
            for new in self.root.glob(f"*{NEW}"):
                old = new.with_suffix("")
                shutil.rmtree(old, ignore_errors=True)
                new.rename(old)

        processes.first(replace)

    def _remove(self, folders) -> None:
        def remove():
            self.check()
            for folder in folders():
                shutil.rmtree(folder, ignore_errors=True)

        processes.first(remove)

    def restore(self, abstract, step: int | None = None):
        """The newest good state (or that of `step`) and its metadata; None if there is no checkpoint at all.

        Args:
          abstract: the state's shapes, dtypes and shardings.
          step: read this one and change nothing, as another process may be writing here.

        Without `step`, the folder is tidied, a damaged step is set aside as `<step>.corrupt` and the one before it is
        tried.

        Raises:
          CheckpointError: the checkpoint is of another model or optimiser, or none is usable.
        """
        if step is None:
            self.tidy()
        steps = self.steps() if step is None else [step]
        for one in steps:
            try:
                return processes.together(functools.partial(stored.load, self.root / str(one), abstract))
            except CheckpointError:
                raise
            except Exception as error:
                path = self.root / str(one)
                reason = str(error).strip().split("\n")[0] or type(error).__name__
                if not path.exists():
                    have = ", ".join(map(str, self.steps())) or "none"
                    raise CheckpointError(f"no checkpoint of step {one} in {self.root}; it has {have}.") from error
                if step is not None:
                    raise CheckpointError(f"checkpoint {path} is damaged: {reason}") from error
                log.warning("checkpoint %s is damaged (%s): set aside as .corrupt", path, reason)
                self._set_aside(one)
        if damaged := len(list(self.root.glob("*.corrupt*"))):
            raise CheckpointError(
                f"none of the {damaged} checkpoints in {self.root} is usable: pass --restart to begin at step 0."
            )
        return None

    def discard(self) -> None:
        """Deletes all checkpoints: the run begins anew."""
        processes.first(lambda: shutil.rmtree(self.root) if self.root.is_dir() else None)

    def forget(self, first: int) -> None:
        """Deletes the steps from `first` on, as the run goes back to before them; but the oldest stays in any case."""
        self._remove(lambda: [self.root / str(step) for step in self.steps()[:-1] if step >= first])

    def only(self, step: int | None) -> None:
        """Deletes all others, if this one is there; None: deletes all."""
        steps = self.steps()
        if step is None or step in steps:
            self._remove(lambda: [self.root / str(other) for other in steps if other != step])

    def _set_aside(self, step: int) -> None:
        def rename():
            target = self.root / f"{step}.corrupt"
            n = 1
            while target.exists():
                n += 1
                target = self.root / f"{step}.corrupt{n}"
            (self.root / str(step)).rename(target)

        processes.first(rename)
