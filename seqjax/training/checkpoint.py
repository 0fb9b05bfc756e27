"""Checkpoints: one directory per step, which orbax commits with a rename. A wrong checkpoint is always reported.

With several processes, each saves and restores its part; only the first makes, renames and deletes folders.
"""

import concurrent.futures
import contextlib
import functools
import logging
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax

from seqjax.training import cost, damage, folders, processes, stored
from seqjax.training.files import free
from seqjax.training.workdir import Workdir
from seqjax.types import CheckpointError, ConfigError, WorkdirError

log = logging.getLogger(__name__)
_WRITER = concurrent.futures.ThreadPoolExecutor(1, "seqjax-writer")
TEMPORARY = ".orbax-checkpoint-tmp"  # in the name that orbax gives to an incomplete checkpoint
NEW = ".new"  # ends the name of a new checkpoint until it replaces the old one of the same step


def chosen(workdir: Workdir, which: str | int) -> tuple["Checkpoints", int]:
    """Finds the checkpoint that "best" (on validation), "latest" or a step names in a run folder.

    Raises:
      ConfigError: `which` is another word.
      CheckpointError: there is no checkpoint yet.
    """
    which = str(which)
    is_step = re.fullmatch(folders.STEP, which)
    if which not in ("best", "latest") and not is_step:
        raise ConfigError(f"got checkpoint {which}, wanted best, latest or a step.")
    checkpoints = Checkpoints(workdir.best if which == "best" else workdir.checkpoints)
    steps = [int(which)] if is_step else checkpoints.steps()
    if not steps:
        raise CheckpointError(f"no checkpoint in {checkpoints.root}: train first, or choose checkpoint latest.")
    return checkpoints, steps[0]


class Checkpoints:
    """The checkpoints of a run under `root`, one directory per step. The newest `keep` and the steps `held` are kept.

    A step that is saved again replaces the old checkpoint of that step only when the new one is complete.

    Raises:
      WorkdirError: a save failed twice (disk full, read-only), or `root` cannot be read.
    """

    def __init__(self, root: Path, keep: int = 2, check: Callable[[], None] = lambda: None):
        self.root, self.keep, self.held = root, keep, ()
        self.check = check  # raises if the run folder is no longer that of this run: then nothing in it is changed
        self._pending = None  # (function that waits for the save, function that saves again, step)

    def steps(self) -> list[int]:
        """Steps that have a directory, newest first. `restore` finds out whether they are good."""
        return [step for step, _ in folders.found(self.root)]

    def aside(self) -> list[tuple[int, Path]]:
        """Step and folder of each checkpoint that was set aside as damaged, newest first."""
        return folders.found(self.root, r"\.corrupt[0-9]*")

    def used(self) -> bool:
        """Whether a run has saved checkpoints here, good or damaged."""
        return bool(self.steps() or self.aside())

    def save(self, state, meta: dict) -> None:
        """Starts to write a state and returns before it is written. `wait` blocks until it is."""
        self.wait()
        state, sums = stored.snapshot(state)  # queued: the host waits neither for this nor for the steps after it
        if jax.default_backend() == "cpu" and jax.device_count() > 1:
            jax.block_until_ready(sums)  # simulated devices can deadlock if collectives are queued
        step, self._bytes = int(meta["step"]), cost.nbytes(state)
        name = f"{step}{NEW if step in self.steps() else ''}"

        def make_folder():
            self.check()
            # If no folder can be made, orbax fails too, but then its threads live on for five minutes.
            self.root.mkdir(exist_ok=True)  # does not make a run folder again that was removed
            tempfile.TemporaryDirectory(suffix=TEMPORARY, dir=self.root).cleanup()

        def write():
            from orbax.checkpoint import v1 as ocp  # takes a second to import: only when something is saved

            processes.first(make_folder)
            about = stored.sealed(meta, state, jax.device_get(sums))
            return ocp.save_async(self.root / name, state, custom_metadata=about, overwrite=True)

        def end(saving):
            saving.result()
            if processes.is_first():
                damage.list_files(self.root / name)

        if jax.process_count() > 1:  # the communication of a save must not mix with that of steps
            response = functools.partial(end, self._twice(step, write, write))
        else:
            response = _WRITER.submit(lambda: end(write())).result
        self._pending = (response, lambda: end(write()), step)

    def _twice(self, step: int, action, again):
        """Runs `action()`. If it fails in one process or more, all processes clean up and run `again()`."""
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
                why = error if isinstance(failed, FileExistsError) else failed  # a thread of the first try wrote late
                raise WorkdirError(
                    f"cannot save step {step} ({self._bytes:,} bytes) to {self.root} ({free(self.root)}): "
                    f"{damage.words(why)}; repair that (if the disk is full, free some space) and "
                    "run the same command again."
                ) from failed

    def wait(self) -> None:
        """Blocks until the last save is on disk, then deletes old steps; the newest `keep` stay."""
        if self._pending is None:
            return
        (response, again, step), self._pending = self._pending, None
        self._twice(step, response, again)
        self._replace()
        self._remove(lambda: [self.root / str(s) for s in self.steps() if s not in (step, *self.held)][self.keep - 1 :])

    def tidy(self) -> None:
        """Cleans up after a killed process: deletes incomplete saves and puts complete ones in their place."""
        self._clean()
        self._replace()

    def _clean(self) -> None:
        self._remove(lambda: self.root.glob(f"*{TEMPORARY}*"))

    def _replace(self) -> None:
        def replace():
            self.check()
            for step, new in folders.found(self.root, re.escape(NEW)):
                shutil.rmtree(self.root / str(step), ignore_errors=True)
                folders.move(new, str(step))

        processes.first(replace)

    def _remove(self, which) -> None:
        def remove():
            self.check()
            for folder in which():
                try:
                    folders.delete(folder)
                except OSError as error:  # the next save tries again
                    log.warning("cannot delete %s: %s", folder, error)

        processes.first(remove)

    def restore(self, abstract, step: int | None = None):
        """Loads the newest good state (or that of `step`) and its metadata; None if there is no checkpoint at all.

        Args:
          abstract: the state's shapes, dtypes and shardings.
          step: read this checkpoint and change no file, as another process may be writing here.

        Without `step`, it tidies the folder, sets a damaged step aside as `<step>.corrupt` and tries the one before.
        If none is left, it tries the steps set aside again. After any other error it changes nothing.

        Raises:
          CheckpointError: the checkpoint is of another model or optimiser, or all checkpoints are damaged.
          WorkdirError: a checkpoint cannot be read, for a reason other than damage.
        """
        load = lambda folder: processes.together(functools.partial(stored.load, folder, abstract))
        if step is not None:
            try:
                return load(self.root / str(step))
            except (damage.Damaged, WorkdirError) as error:
                if step in (have := self.steps()):
                    raise
                names = ", ".join(map(str, have)) or "none"
                raise CheckpointError(f"no checkpoint of step {step} in {self.root}; its steps: {names}.") from error
        self.tidy()
        for one, folder in folders.found(self.root):
            try:
                return load(folder)
            except damage.Damaged as error:
                log.warning("%s: set aside as .corrupt", error)
                processes.first(functools.partial(folders.keep, folder, f"{one}.corrupt"))
        for one, folder in (aside := self.aside()):
            with contextlib.suppress(damage.Damaged):
                found = load(folder)
                log.warning("%s was set aside as damaged but is good: put back as step %d", folder, one)
                processes.first(functools.partial(folders.move, folder, str(one)))
                return found
        if aside:
            raise CheckpointError(
                f"all checkpoints in {self.root} are damaged ({len(aside)}, set aside as .corrupt): pass --restart to "
                "begin at step 0; the damaged ones are kept."
            )
        return None

    def discard(self) -> None:
        """Deletes all steps, for a restart. Checkpoints set aside are renamed to `<step>.kept` and not read again."""

        def delete():
            try:
                for _, folder in folders.found(self.root, f"({re.escape(NEW)})?({re.escape(TEMPORARY)}.*)?"):
                    folders.delete(folder)
            except OSError as error:
                raise WorkdirError(f"cannot delete the checkpoints in {self.root}: {error}.") from error
            for step, folder in self.aside():
                kept = folders.keep(folder, f"{step}.kept")
                log.warning("%s was set aside as damaged and is kept as %s", folder, kept.name)

        processes.first(delete)

    def forget(self, first: int) -> None:
        """Deletes the steps from `first` on, as the run goes back to an earlier step. The oldest is always kept."""
        self._remove(lambda: [self.root / str(step) for step in self.steps()[:-1] if step >= first])

    def only(self, step: int | None) -> None:
        """Deletes all steps except this one, if it exists; None: deletes all."""
        steps = self.steps()
        if step is None or step in steps:
            self._remove(lambda: [self.root / str(other) for other in steps if other != step])
