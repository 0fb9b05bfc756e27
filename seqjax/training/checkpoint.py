"""Checkpoints that are never restored wrongly in silence: orbax, plus our own checksums.

One directory per step, committed by orbax with a rename. Its metadata holds the name, shape, dtype and checksum of
every array, so that another model is told apart from a damaged file, and both from a good one. Of several processes,
each saves and restores its part; the first alone makes, renames and deletes folders.
"""

import concurrent.futures
import functools
import hashlib
import json
import logging
import re
import shutil
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp

from seqjax.training import cost, processes
from seqjax.training.workdir import free
from seqjax.types import CheckpointError, WorkdirError

log = logging.getLogger(__name__)
_WRITER = concurrent.futures.ThreadPoolExecutor(1, "seqjax-writer")
TEMPORARY = ".orbax-checkpoint-tmp"  # how orbax names what is not yet whole
NEW = ".new"  # what a step is called that takes the place of another, until it does


@jax.jit
def _checksums(arrays):
    def one(x):
        bits = {1: jnp.uint8, 2: jnp.uint16}.get(x.dtype.itemsize, jnp.uint32)
        u = (x if x.dtype == bool else jax.lax.bitcast_convert_type(x, bits)).reshape(-1).astype(jnp.uint32)
        # Every weight is odd, so a single flipped bit always changes the sum.
        return jnp.sum(u * (jnp.arange(u.size, dtype=jnp.uint32) * jnp.uint32(2654435761) | 1), dtype=jnp.uint32)

    return jax.tree.map(one, arrays)


@jax.jit
def _snapshot(state):
    """A copy, as the next step reuses the buffers of a state, and its checksums."""
    return jax.tree.map(jnp.copy, state), _checksums(_named(state))


def _named(tree) -> dict:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def describe(state) -> dict[str, list]:
    """Array name -> [dtype, shape], of arrays or of abstract ones."""
    return {name: [str(a.dtype), list(a.shape)] for name, a in _named(state).items()}


def _seal(meta: dict) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def digest(state) -> str:
    """sha256 over all arrays of a state: equal digests mean equal bits."""
    h = hashlib.sha256()
    for name, leaf in sorted(_named(state).items()):
        h.update(name.encode())
        h.update(jax.device_get(leaf).tobytes())
    return h.hexdigest()


class Checkpoints:
    """The checkpoints of a run under `root`, one directory per step; the newest `keep` stay, and the steps `held`.

    A step that is saved once more takes the place of the old one when it is whole, and not before.

    Raises:
      WorkdirError: a save failed twice (disk full, read-only).
    """

    def __init__(self, root: Path, keep: int = 2):
        self.root, self.keep, self.held = root, keep, ()
        self._pending = None  # (what waits for the save, what does it again, step)

    def steps(self) -> list[int]:
        """Steps that have a directory, newest first; whether they are good is seen when they are restored."""
        if not self.root.is_dir():
            return []
        return sorted(int(p.name) for p in self.root.iterdir() if re.fullmatch(r"\d+", p.name) and p.is_dir())[::-1]

    def save(self, state, meta: dict) -> None:
        """Starts to write a state; returns while it is being written. `wait` makes sure of it."""
        self.wait()
        state, sums = _snapshot(state)  # queued: neither it nor what follows is waited for
        if jax.default_backend() == "cpu" and jax.device_count() > 1:
            jax.block_until_ready(sums)  # simulated devices can deadlock with collectives in a queue
        step, self._bytes = int(meta["step"]), cost.nbytes(state)
        name = f"{step}{NEW if step in self.steps() else ''}"

        def make_folder():
            # Where none can be made, orbax fails too, but its threads live on for five minutes.
            self.root.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryDirectory(suffix=TEMPORARY, dir=self.root).cleanup()

        def write():
            from orbax.checkpoint import v1 as ocp  # a second to import: only where something is saved

            processes.first(make_folder)
            found = jax.device_get(sums)
            arrays = {name: [*kind, int(found[name])] for name, kind in describe(state).items()}
            about = {**meta, "arrays": arrays}
            about["seal"] = _seal(about)
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
            for new in self.root.glob(f"*{NEW}"):
                old = new.with_suffix("")
                shutil.rmtree(old, ignore_errors=True)
                new.rename(old)

        processes.first(replace)

    def _remove(self, folders) -> None:
        def remove():
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
                return processes.together(functools.partial(self._load, self.root / str(one), abstract))
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

    def _load(self, path: Path, abstract):
        from orbax.checkpoint import v1 as ocp

        if not (path / "_CHECKPOINT_METADATA").is_file():
            raise ValueError("it is incomplete")
        meta = dict(ocp.metadata(path).custom_metadata)
        if meta.pop("seal") != _seal(meta):
            raise ValueError("its metadata changed after it was written")
        saved = {name: kind[:2] for name, kind in meta["arrays"].items()}
        if differences := _differences(saved, describe(abstract)):
            more = f"\n  ... and {len(differences) - 5} more" if len(differences) > 5 else ""
            raise CheckpointError(
                f"{path} is of another model or optimiser, {len(differences)} arrays differ "
                "(use the config it was made with, or another --workdir):\n  " + "\n  ".join(differences[:5]) + more
            )
        state = ocp.load(path, abstract)
        sums = jax.device_get(_checksums(_named(state)))
        for name, (_, _, wanted) in meta["arrays"].items():
            if int(sums[name]) != wanted:
                raise ValueError(f"the checksum of {name} is wrong")
        return state, meta


def _differences(saved: dict, wanted: dict) -> list[str]:
    show = lambda kind: f"{kind[0]}{kind[1]}" if kind else "nothing"
    return [
        f"{name}: saved {show(saved.get(name))}, wanted {show(wanted.get(name))}"
        for name in [*wanted, *(n for n in saved if n not in wanted)]
        if saved.get(name) != wanted.get(name)
    ]
