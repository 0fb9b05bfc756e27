"""One checkpoint on disk: orbax's files, and metadata with the name, shape, dtype and checksum of every array.

By these another model is told apart from a damaged file, and both from a good one.
"""

import hashlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp

from seqjax.training.damage import Damaged, reading, seal
from seqjax.types import CheckpointError

ABOUT = "_CHECKPOINT_METADATA"  # orbax's, with ours in it


@jax.jit
def checksums(arrays):
    """uint32, one per array; a flipped bit changes it."""

    def one(x):
        bits = {1: jnp.uint8, 2: jnp.uint16}.get(x.dtype.itemsize, jnp.uint32)
        u = (x if x.dtype == bool else jax.lax.bitcast_convert_type(x, bits)).reshape(-1).astype(jnp.uint32)
        # Every weight is odd, so a single flipped bit always changes the sum.
        return jnp.sum(u * (jnp.arange(u.size, dtype=jnp.uint32) * jnp.uint32(2654435761) | 1), dtype=jnp.uint32)

    return jax.tree.map(one, arrays)


@jax.jit
def snapshot(state):
    """A copy, as the next step reuses the buffers of a state, and its checksums."""
    return jax.tree.map(jnp.copy, state), checksums(_named(state))


def _named(tree) -> dict:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def describe(state) -> dict[str, list]:
    """Array name -> [dtype, shape], of arrays or of abstract ones."""
    return {name: [str(a.dtype), list(a.shape)] for name, a in _named(state).items()}


def empties(state) -> list[str]:
    """Names of the parts that have a place in a state and no array, such as what a gradient clipper keeps."""
    ends = jax.tree_util.tree_leaves_with_path(state, is_leaf=lambda x: jax.tree.structure(x).num_nodes == 1)
    return [jax.tree_util.keystr(path) for path, end in ends if not jax.tree.leaves(end)]


def digest(state) -> str:
    """sha256 over all arrays of a state: equal digests mean equal bits."""
    h = hashlib.sha256()
    for name, leaf in sorted(_named(state).items()):
        h.update(name.encode())
        h.update(jax.device_get(leaf).tobytes())
    return h.hexdigest()


def sealed(meta: dict, state, sums: dict) -> dict:
    """`meta` as it is written beside a state with these checksums: with what is known of each array, and a seal."""
    about = {**meta, "arrays": {name: [*kind, int(sums[name])] for name, kind in describe(state).items()}}
    about["empty"] = empties(state)
    return {**about, "seal": seal(about)}


def metadata(path: Path) -> dict:
    """What was written beside the arrays.

    Raises:
      Damaged: the checkpoint is not whole, or it changed.
      WorkdirError: it cannot be read.
    """
    damaged = lambda why: Damaged(f"checkpoint {path} is damaged: {why}")
    with reading(path):
        try:
            meta = dict(json.loads((path / ABOUT).read_bytes())["custom_metadata"])
            written = meta.pop("seal")
        except FileNotFoundError as error:
            raise damaged("it is incomplete") from error
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise damaged(f"{ABOUT} is not what was written") from error
        if written != seal(meta):
            raise damaged("its metadata changed after it was written")
    return meta


def load(path: Path, abstract) -> tuple:
    """The whole state, of these shapes, dtypes and shardings, and the metadata.

    Raises:
      CheckpointError: it has other arrays, or another structure.
      Damaged: it is not what was written.
      WorkdirError: it cannot be read.
    """
    meta = metadata(path)
    _check_same(path, meta, abstract)
    with reading(path):
        from orbax.checkpoint import v1 as ocp  # a second to import: only where something is read

        state = ocp.load(path, abstract)
        _check(path, meta, _named(state))
    return state, meta


def _check_same(path: Path, meta: dict, abstract) -> None:
    found, what = differences({name: kind[:2] for name, kind in meta["arrays"].items()}, describe(abstract)), "arrays"
    if not found and "empty" in meta:  # older ones do not say
        saved, wanted = (
            {name: ["a part", " without arrays"] for name in e} for e in (meta["empty"], empties(abstract))
        )
        found, what = differences(saved, wanted), "parts without arrays"
    if found:
        kind = "optimiser" if all(line.startswith(".opt_state") for line in found) else "model or optimiser"
        raise CheckpointError(
            f"{path} is of another {kind}, {len(found)} {what} differ "
            f"(use the config it was made with, or another --workdir):{listed(found)}"
        )


def describe_field(meta: dict, field: str) -> dict[str, list]:
    """Array name -> [dtype, shape], of one field of a state with this metadata; `.params['a']['b']` is called `a/b`."""
    begin = f".{field}['"
    of_field = {name.removeprefix(begin): kind[:2] for name, kind in meta["arrays"].items() if name.startswith(begin)}
    return {name.removesuffix("']").replace("']['", "/"): kind for name, kind in of_field.items()}


def load_field(path: Path, meta: dict, field: str, abstract):
    """Of a state with this metadata, those arrays of one field that `abstract` has.

    Raises:
      Damaged: they are not what was written.
      WorkdirError: they cannot be read.
    """
    with reading(path):
        from orbax.checkpoint import v1 as ocp

        options = ocp.options.PyTreeOptions
        with ocp.Context(pytree_options=options(loading=options.Loading(partial_load=True))):
            part = ocp.load(path, {field: abstract})[field]
        _check(path, meta, {f".{field}{name}": array for name, array in _named(part).items()})
    return part


def _check(path: Path, meta: dict, named: dict) -> None:
    for name, found in jax.device_get(checksums(named)).items():
        if int(found) != meta["arrays"][name][2]:
            raise Damaged(f"checkpoint {path} is damaged: the checksum of {name} is wrong")


def differences(saved: dict, wanted: dict) -> list[str]:
    """Where the arrays that are saved are not those that are wanted: both as `describe` gives them."""
    show = lambda kind: f"{kind[0]}{kind[1]}" if kind else "nothing"
    return [
        f"{name}: saved {show(saved.get(name))}, wanted {show(wanted.get(name))}"
        for name in [*wanted, *(n for n in saved if n not in wanted)]
        if saved.get(name) != wanted.get(name)
    ]


def listed(found: list[str]) -> str:
    """The first five, one a line, for the end of an error."""
    more = f"\n  ... and {len(found) - 5} more" if len(found) > 5 else ""
    return "\n  " + "\n  ".join(found[:5]) + more
