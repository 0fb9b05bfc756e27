"""Spreads a step over the devices of one process or several: with jit on a mesh, or with pmap."""

import dataclasses
from typing import Literal

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from seqjax.types import Checked, ConfigError, Count

AXES = ("data", "fsdp", "sequence", "tensor")
ROWS = ("data", "fsdp")  # the rows of a batch are split over these axes
# Matrices that multiply the output of the matrix before them. They are cut along their inputs, so that the pair needs
# one sum over devices (Shoeybi et al. 2019, arXiv:1909.08053). All other matrices are cut along their outputs.
INWARD = ("down", "out")


@dataclasses.dataclass(frozen=True)
class Parallel(Checked):
    """How many devices share the rows, the tokens and the parameters.

    mode="jit": a mesh of `data` x `fsdp` x `sequence` x `tensor` devices. The rows of a batch are split over data and
    fsdp, its tokens over sequence (attention in a ring, linear recurrences chunk by chunk), parameters and optimiser
    state over fsdp and tensor. mode="pmap": every device holds the whole state and takes a share of the rows.
    data=None takes the devices that the other axes leave.
    """

    mode: Literal["jit", "pmap"] = "jit"
    data: Count | None = None
    fsdp: Count = 1
    sequence: Count = 1
    tensor: Count = 1

    def __post_init__(self):
        super().__post_init__()
        others = {name: getattr(self, name) for name in AXES[1:]}
        if self.mode == "pmap" and max(others.values()) > 1:
            got = ", ".join(f"{name}={size}" for name, size in others.items())
            raise ValueError(f"mode='pmap' is data-parallel only, got {got}: use mode='jit'.")

    def sizes(self, batch: int, accumulate: int) -> dict[str, int]:
        """Number of devices per axis, over all processes. Raises ConfigError if it does not fit devices or batch."""
        devices, processes = jax.device_count(), jax.process_count()
        at_hand = f"{devices} devices" + (f" of {processes} processes" if processes > 1 else "")
        model = self.fsdp * self.sequence * self.tensor
        data = self.data or max(devices // model, 1)
        sizes = {"data": data, "fsdp": self.fsdp, "sequence": self.sequence, "tensor": self.tensor}
        # A single process may leave devices unused; several processes must use all devices.
        if data * model > devices or (data * model != devices and (self.data is None or processes > 1)):
            shown = " x ".join(f"{name}={size}" for name, size in sizes.items() if size > 1 or name != "sequence")
            raise ConfigError(f"parallel: {shown} does not fit {at_hand}: choose sizes whose product is {devices}.")
        shares = data * self.fsdp * accumulate
        if batch % shares:
            raise ConfigError(
                f"loader.batch_size={batch} is not divisible by {data * self.fsdp} devices x "
                f"train.accumulation_steps={accumulate}{f' ({at_hand})' if processes > 1 else ''}: "
                f"choose a multiple of {shares}."
            )
        return sizes

    def layout(self, batch: int, accumulate: int) -> "Jit | Pmap":
        """The layout for the present devices."""
        sizes = self.sizes(batch, accumulate)
        return Jit(sizes) if self.mode == "jit" else Pmap(sizes)


class Layout:
    """A mesh over the devices of all processes. The global arrays of checkpoints and evaluation live on it."""

    def __init__(self, sizes: dict[str, int]):
        shape = tuple(sizes[axis] for axis in AXES)
        devices = jax.devices()[: int(np.prod(shape))]
        self.mesh = jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)
        self.shares = sizes["data"] * sizes["fsdp"]
        self.everywhere, self.by_row = self.named(), self.named(ROWS)

    def named(self, *axes) -> NamedSharding:
        """The sharding that cuts dimensions along these axes of the mesh."""
        return NamedSharding(self.mesh, PartitionSpec(*axes))

    def for_rows(self, size: int) -> NamedSharding:
        """The sharding of a batch of `size` rows: a whole copy on each device if the devices do not divide it."""
        return self.everywhere if size % self.shares else self.by_row

    def shardings(self, state):
        """The sharding of each array of a state."""
        return _by_row(lambda path, leaf: self.for_rows(leaf.shape[0]), self._where, state)

    def _where(self, path, leaf) -> NamedSharding:
        return self.everywhere

    def abstract(self, shapes):
        """Shapes, dtypes and shardings that a checkpoint is restored to."""
        one = lambda s, where: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where)
        return jax.tree.map(one, shapes, self.shardings(shapes))

    def init(self, make_state):
        """Makes a state: each device makes its own part."""
        return self.spread(jax.jit(make_state, out_shardings=self.shardings(jax.eval_shape(make_state)))())

    def rows(self, batch: int) -> np.ndarray | None:
        """The indices of the rows of a batch that this process reads; None: all rows."""
        if jax.process_count() == 1:
            return None
        places = self.by_row.addressable_devices_indices_map((batch,)).values()
        return np.unique(np.concatenate([np.arange(batch)[place] for place in places]))

    def place(self, batch, size: int):
        """The rows that this process read, of a batch of `size` rows -> global arrays."""
        if jax.process_count() == 1:
            return jax.device_put(batch, self.for_rows(size))
        return self._join(batch, size, self.by_row, axis=0)

    def _join(self, batch, size: int, where: NamedSharding, axis: int):
        """Arrays of the rows (along `axis`) that each process read -> global arrays."""
        rows = self.rows(size)

        def one(a):
            mine = lambda index: a[index[:axis]].take(np.searchsorted(rows, np.arange(size)[index[axis]]), axis=axis)
            return jax.make_array_from_callback((*a.shape[:axis], size, *a.shape[axis + 1 :]), where, mine)

        return jax.tree.map(one, batch)

    def host(self, tree):
        """Global arrays -> host arrays, also of the parts that only other processes hold."""
        if jax.process_count() > 1:
            tree = jax.jit(lambda tree: tree, out_shardings=self.everywhere)(tree)
        return jax.device_get(tree)

    def evaluate(self, eval_step, size: int):
        """An evaluation step over this mesh, for batches of `size` rows."""
        return self._within(jax.jit(eval_step, out_shardings=(self.everywhere, self.for_rows(size))))

    def _global(self, leaf):
        """A value that every process has -> a global array."""
        if isinstance(leaf, jax.Array) and leaf.sharding == self.everywhere:
            return leaf
        value = np.asarray(leaf)
        return jax.make_array_from_callback(value.shape, self.everywhere, lambda index: value[index])

    def _within(self, compiled):
        """Runs a function with this mesh as the ambient mesh, where code finds what cuts sequences and heads."""
        if self.mesh.shape["sequence"] == self.mesh.shape["tensor"] == 1:
            return compiled

        def call(*args):
            with jax.set_mesh(self.mesh):
                return compiled(*args)

        return call


class Jit(Layout):
    """One program over the mesh; XLA inserts the collectives."""

    axis = None

    def _where(self, path, leaf, fsdp: bool = True) -> NamedSharding:
        """`tensor` cuts matrices along their outputs, or along their inputs if named in `INWARD`. `fsdp` cuts arrays
        along the longest other axis that it divides. Optimiser moments have the sharding of their parameters."""
        spec: list = [None] * len(leaf.shape)
        names = {getattr(key, "key", None) for key in path}
        axis = -2 if names & {*INWARD} else -1
        if len(spec) > 1 and leaf.shape[axis] % self.mesh.shape["tensor"] == 0:
            spec[axis] = "tensor"
        free = [d for d, cut in enumerate(spec) if cut is None and leaf.shape[d] % self.mesh.shape["fsdp"] == 0]
        if free and fsdp:
            spec[max(free, key=lambda d: leaf.shape[d])] = "fsdp"
        return self.named(*spec)

    def use(self, params):
        """Parameters as the model reads them; they and their gradients are not cut along fsdp.

        Without this constraint XLA silently computes wrong gradients of a scan whose weights are cut by fsdp and tensor
        while data is larger than one (jax 0.10.2 and 0.12.0).
        """
        where = jax.tree_util.tree_map_with_path(lambda path, p: self._where(path, p, fsdp=False), params)
        return jax.lax.with_sharding_constraint(params, where)

    def compile(self, train_step, state, size: int, axis: int = 0):
        """The step over this mesh, for batches with `size` rows along `axis`; the new state reuses the old buffers."""
        where, rows = self.shardings(state), self.named(*[None] * axis, ROWS)
        places = {"in_shardings": (where, self.everywhere, rows), "out_shardings": (where, self.everywhere)}
        compiled = self._within(jax.jit(train_step, donate_argnums=0, **places))
        if jax.process_count() == 1:  # jit places host arrays faster than `_join` does
            return compiled
        return lambda state, totals, batch: compiled(state, totals, self._join(batch, size, rows, axis))

    def spread(self, tree):
        """A tree on the host, or of global arrays -> arrays that the compiled step takes."""
        return jax.tree.map(lambda a: a if isinstance(a, jax.Array) and a.committed else self._global(a), tree)

    def gather(self, tree):
        """Arrays that the compiled step returned -> global arrays."""
        return tree

    def fetch(self, tree):
        """Arrays that the compiled step returned, equal on all devices -> host arrays."""
        return jax.device_get(tree)


class Pmap(Layout):
    """The same program on every device, each with its share of the rows; a psum adds the gradients.

    The first axis of a step's arrays is the devices of this process.
    """

    axis = "data"

    def __init__(self, sizes: dict[str, int]):
        super().__init__(sizes)
        self.local = [d for d in self.mesh.devices.flat if d.process_index == jax.process_index()]
        mesh = jax.sharding.Mesh(np.array(self.local), (self.axis,), axis_types=(AxisType.Auto,))
        self.in_front = NamedSharding(mesh, PartitionSpec(self.axis))

    def use(self, params):
        return params

    def compile(self, train_step, state, size: int, axis: int = 0):
        # With several processes, devices=None stands for the devices of all processes.
        devices, n = self.local if jax.process_count() == 1 else None, len(self.local)
        step = jax.pmap(train_step, axis_name=self.axis, devices=devices, donate_argnums=0)
        share = lambda a: np.moveaxis(a.reshape(*a.shape[:axis], n, -1, *a.shape[axis + 1 :]), axis, 0)
        return lambda state, totals, batch: step(state, totals, jax.tree.map(share, batch))

    def spread(self, tree):
        def put(leaf, shard):
            shards = [shard(s.data) for s in leaf.addressable_shards]
            shape = (len(shards), *shards[0].shape[1:])
            return jax.make_array_from_single_device_arrays(shape, self.in_front, shards)

        whole = lambda path, leaf: put(self._global(leaf), lambda a: a[None])
        rows = lambda path, leaf: put(jax.device_put(leaf, self.by_row), lambda a: a[None])
        return _by_row(rows, whole, tree)

    def gather(self, tree):
        def join(leaf, where, shape):
            shards = [s.data.reshape(s.data.shape[1:]) for s in leaf.addressable_shards]
            return jax.make_array_from_single_device_arrays(shape, where, shards)

        whole = lambda path, leaf: join(leaf, self.everywhere, leaf.shape[1:])
        rows = lambda path, leaf: join(leaf, self.by_row, (self.shares * leaf.shape[1], *leaf.shape[2:]))
        return _by_row(rows, whole, tree)

    def fetch(self, tree):
        return jax.tree.map(lambda a: np.asarray(a.addressable_shards[0].data)[0], tree)


def _by_row(rows, rest, tree):
    """Maps `rows` over the carried state, which has one row per row of the batch, and `rest` over the other arrays."""
    carry = jax.tree_util.GetAttrKey("carry")
    return jax.tree_util.tree_map_with_path(lambda path, a: (rows if path[:1] == (carry,) else rest)(path, a), tree)
