"""Checkpoints that are never restored wrongly in silence: orbax, plus our own checksums.

One directory per step, committed by orbax with a rename. Its metadata holds the name, shape, dtype and checksum of
every array, so that another model is told apart from a damaged file, and both from a good one.
"""

import hashlib
import json
import logging
import re
import shutil
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp

from seqjax.types import CheckpointError, WorkdirError

log = logging.getLogger(__name__)
TEMPORARY = ".orbax-checkpoint-tmp"  # how orbax names what is not yet whole


@jax.jit
def _checksums(arrays):
    def one(x):
        bits = {1: jnp.uint8, 2: jnp.uint16}.get(x.dtype.itemsize, jnp.uint32)
        u = (x if x.dtype == bool else jax.lax.bitcast_convert_type(x, bits)).reshape(-1).astype(jnp.uint32)
        # Every weight is odd, so a single flipped bit always changes the sum.
        return jnp.sum(u * (jnp.arange(u.size, dtype=jnp.uint32) * jnp.uint32(2654435761) | 1), dtype=jnp.uint32)

    return jax.tree.map(one, arrays)


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
    """The checkpoints of a run under `root`, one directory per step; the newest `keep` stay.

    Raises:
      WorkdirError: a save failed twice (disk full, read-only).
    """

    def __init__(self, root: Path, keep: int = 2):
        self.root, self.keep = root, keep
        self._pending = None  # (orbax response, step)

    def steps(self) -> list[int]:
        """Steps that have a directory, newest first; whether they are good is seen when they are restored."""
        if not self.root.is_dir():
            return []
        return sorted(int(p.name) for p in self.root.iterdir() if re.fullmatch(r"\d+", p.name) and p.is_dir())[::-1]

    def save(self, state, meta: dict) -> None:
        """Starts to write a state; returns while it is being written. `wait` makes sure of it."""
        from orbax.checkpoint import v1 as ocp  # a second to import: only where something is saved

        self.wait()
        state = jax.tree.map(jnp.copy, state)  # the next step reuses the buffers of this one
        sums = jax.device_get(_checksums(_named(state)))
        arrays = {name: [*kind, int(sums[name])] for name, kind in describe(state).items()}
        meta = {**meta, "arrays": arrays}
        step = int(meta["step"])
        meta["seal"] = _seal(meta)

        def write():
            # Where no folder can be made, orbax fails too, but its threads live on for five minutes.
            self.root.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryDirectory(suffix=TEMPORARY, dir=self.root).cleanup()
            return ocp.save_async(self.root / str(step), state, custom_metadata=meta, overwrite=True)

        self._pending = (self._retry(write, step), write, step)

    def _retry(self, write, step: int):
        try:
            return write()
        except Exception as error:
            log.warning("saving step %d failed (%s), trying again", step, error)
            self._clean(step)
            try:
                return write()
            except Exception as again:
                raise self._failed(step, again) from again

    def wait(self) -> None:
        """Blocks until the last save stands on disk, then drops what is older than the newest `keep`."""
        if self._pending is None:
            return
        (response, write, step), self._pending = self._pending, None
        try:
            response.result()
        except Exception as error:
            log.warning("saving step %d failed (%s), trying again", step, error)
            self._clean(step)
            try:
                write().result()
            except Exception as again:
                self._clean(step)
                raise self._failed(step, again) from again
        for old in self.steps()[self.keep :]:
            shutil.rmtree(self.root / str(old), ignore_errors=True)

    def _clean(self, step: int) -> None:
        for left in self.root.glob(f"{step}{TEMPORARY}*"):
            shutil.rmtree(left, ignore_errors=True)

    def _failed(self, step: int, error: Exception) -> WorkdirError:
        free = shutil.disk_usage(next(p for p in (self.root, *self.root.parents) if p.exists())).free
        reason = str(error).strip().split("\n")[0]
        return WorkdirError(f"cannot save step {step} to {self.root} ({free:,} bytes free): {reason}")

    def restore(self, abstract, step: int | None = None):
        """The newest good state (or that of `step`) and its metadata; None if there is no checkpoint at all.

        Args:
          abstract: the state's shapes, dtypes and shardings.
          step: read this one and change nothing, as another process may be writing here.

        Without `step`, a damaged step is set aside as `<step>.corrupt` and the one before it is tried.

        Raises:
          CheckpointError: the checkpoint is of another model or optimiser, or none is usable.
        """
        if step is None:
            for left in self.root.glob(f"*{TEMPORARY}*"):
                shutil.rmtree(left, ignore_errors=True)
        steps = self.steps() if step is None else [step]
        for one in steps:
            try:
                return self._load(self.root / str(one), abstract)
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
        if self.root.is_dir():
            shutil.rmtree(self.root)

    def _set_aside(self, step: int) -> None:
        target = self.root / f"{step}.corrupt"
        n = 1
        while target.exists():
            n += 1
            target = self.root / f"{step}.corrupt{n}"
        (self.root / str(step)).rename(target)

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
