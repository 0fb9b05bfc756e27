"""One checkpoint on disk: orbax's files, and metadata with the name, shape, dtype and checksum of every array.

The metadata distinguishes a checkpoint of another model, a damaged checkpoint and a good one.
"""

import hashlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp

from seqjax import config
from seqjax.training.damage import Damaged, reading
from seqjax.types import CheckpointError

ABOUT = "_CHECKPOINT_METADATA"  # the metadata file of orbax, which contains ours


@jax.jit
def checksums(arrays):
    """One uint32 checksum per array; a flipped bit changes it."""

    def one(x):
        bits = {1: jnp.uint8, 2: jnp.uint16}.get(x.dtype.itemsize, jnp.uint32)
        u = (x if x.dtype == bool else jax.lax.bitcast_convert_type(x, bits)).reshape(-1).astype(jnp.uint32)
        # Every weight is odd, so a single flipped bit always changes the sum.
        return jnp.sum(u * (jnp.arange(u.size, dtype=jnp.uint32) * jnp.uint32(2654435761) | 1), dtype=jnp.uint32)

    return jax.tree.map(one, arrays)


@jax.jit
def snapshot(state):
    """A copy of a state, as the next step reuses its buffers, and the checksums of its arrays."""
    return jax.tree.map(jnp.copy, state), checksums(_named(state))


def _named(tree) -> dict:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def describe(state) -> dict[str, list]:
    """Array name -> [dtype, shape]; the arrays may be abstract."""
    return {name: [str(a.dtype), list(a.shape)] for name, a in _named(state).items()}


def empties(state) -> list[str]:
    """Names of the parts of a state that contain no array, such as the state of a gradient clipper; not `.aux`."""
    ends = jax.tree_util.tree_leaves_with_path(state, is_leaf=lambda x: jax.tree.structure(x).num_nodes == 1)
    names = [jax.tree_util.keystr(path) for path, end in ends if not jax.tree.leaves(end)]
    return [name for name in names if name != ".aux"]  # older checkpoints do not have it


def digest(state) -> str:
    """sha256 over all arrays of a state: equal digests mean equal bits."""
    h = hashlib.sha256()
    for name, leaf in sorted(_named(state).items()):
        h.update(name.encode())
        h.update(jax.device_get(leaf).tobytes())
    return h.hexdigest()


def sealed(meta: dict, state, sums: dict) -> dict:
    """The metadata to write with a state: `meta`, a description and checksum (`sums`) of each array, and a seal."""
    about = {**meta, "arrays": {name: [*kind, int(sums[name])] for name, kind in describe(state).items()}}
    about["empty"] = empties(state)
    return {**about, "seal": config.digest(about)}


def metadata(path: Path) -> dict:
    """The metadata of a checkpoint.

    Raises:
      Damaged: the checkpoint is incomplete, or the metadata changed after it was written.
      WorkdirError: the metadata cannot be read.
    """
    damaged = lambda why: Damaged(f"checkpoint {path} is damaged: {why}")
    with reading(path):
        try:
            meta = dict(json.loads((path / ABOUT).read_bytes())["custom_metadata"])
            written = meta.pop("seal")
        except FileNotFoundError as error:
            raise damaged("it is incomplete") from error
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise damaged(f"{ABOUT} changed after it was written") from error
        if written != config.digest(meta):
            raise damaged("its metadata changed after it was written")
    return meta


def load(path: Path, abstract) -> tuple:
    """Loads the whole state, with the shapes, dtypes and shardings of `abstract`, and the metadata.

    Raises:
      CheckpointError: the checkpoint has other arrays, or another structure.
      Damaged: the checkpoint changed after it was written.
      WorkdirError: the checkpoint cannot be read.
    """
    meta = metadata(path)
    _check_same(path, meta, abstract)
    with reading(path):
        if getattr(abstract, "aux", None) == {}:  # older checkpoints do not have it, and orbax would want it
            parts = {name: part for name, part in vars(abstract).items() if name != "aux"}
            state = abstract.replace(**_load(path, parts))
        else:
            state = _load(path, abstract)
        _check(path, meta, _named(state))
    return state, meta


def _load(path: Path, abstract):
    """The parts of a saved state that `abstract` has."""
    from orbax.checkpoint import v1 as ocp  # takes a second to import: only when something is read

    options = ocp.options.PyTreeOptions
    with ocp.Context(pytree_options=options(loading=options.Loading(partial_load=True))):
        return ocp.load(path, abstract)


def _check_same(path: Path, meta: dict, abstract) -> None:
    found, what = differences({name: kind[:2] for name, kind in meta["arrays"].items()}, describe(abstract)), "arrays"
    if not found and "empty" in meta:  # older checkpoints do not save it
        saved, wanted = (dict.fromkeys(e, ("a part", " without arrays")) for e in (meta["empty"], empties(abstract)))
        found, what = differences(saved, wanted), "parts without arrays"
    if found:
        kind = "optimiser" if all(line.startswith(".opt_state") for line in found) else "model or optimiser"
        raise CheckpointError(
            f"{path} is of another {kind}, {len(found)} {what} differ "
            f"(use the config of the checkpoint, or another --workdir):{listed(found)}"
        )


def describe_field(meta: dict, field: str) -> dict[str, list]:
    """Array name -> [dtype, shape] for one field of the state; `.params['a']['b']` is called `a/b`."""
    begin = f".{field}['"
    of_field = {name.removeprefix(begin): kind[:2] for name, kind in meta["arrays"].items() if name.startswith(begin)}
    return {name.removesuffix("']").replace("']['", "/"): kind for name, kind in of_field.items()}


def load_field(path: Path, meta: dict, field: str, abstract):
    """Loads the arrays in `abstract` from one field of a saved state. Raises Damaged or WorkdirError as `load` does."""
    with reading(path):
        part = _load(path, {field: abstract})[field]
        _check(path, meta, {f".{field}{name}": array for name, array in _named(part).items()})
    return part


def _check(path: Path, meta: dict, named: dict) -> None:
    for name, found in jax.device_get(checksums(named)).items():
        if int(found) != meta["arrays"][name][2]:
            raise Damaged(f"checkpoint {path} is damaged: the checksum of {name} is wrong")


def differences(saved: dict, wanted: dict) -> list[str]:
    """One line for each array that differs between `saved` and `wanted`, which are results of `describe`."""
    show = lambda kind: f"{kind[0]}{kind[1]}" if kind else "nothing"
    return [
        f"{name}: saved {show(saved.get(name))}, wanted {show(wanted.get(name))}"
        for name in [*wanted, *(n for n in saved if n not in wanted)]
        if saved.get(name) != wanted.get(name)
    ]


def listed(found: list[str]) -> str:
    """The first five lines, for the end of an error message."""
    more = f"\n  ... and {len(found) - 5} more" if len(found) > 5 else ""
    return "\n  " + "\n  ".join(found[:5]) + more
