"""How a step is spread over devices: jit on a mesh, or pmap."""

import dataclasses
from typing import Literal

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from seqjax.types import Checked, ConfigError, Count

AXES = ("data", "fsdp", "tensor")


def _by_row(rows, rest, tree):
    """Maps `rows` over the carried state, which goes with the rows of a batch, and `rest` over all else."""
    carry = jax.tree_util.GetAttrKey("carry")
    return jax.tree_util.tree_map_with_path(lambda path, a: (rows if path[:1] == (carry,) else rest)(a), tree)


@dataclasses.dataclass(frozen=True)
class Parallel(Checked):
    """How many devices do what.

    mode="jit": a mesh of `data` x `fsdp` x `tensor` devices. Batches are split over data and fsdp, parameters and
    optimiser state over fsdp and tensor. mode="pmap": every device holds everything and takes a share of the batch.
    data=None takes the devices that fsdp and tensor leave.
    """

    mode: Literal["jit", "pmap"] = "jit"
    data: Count | None = None
    fsdp: Count = 1
    tensor: Count = 1

    def __post_init__(self):
        super().__post_init__()
        if self.mode == "pmap" and (self.fsdp > 1 or self.tensor > 1):
            raise ValueError(
                f"mode='pmap' is data-parallel only, got fsdp={self.fsdp}, tensor={self.tensor}: use mode='jit'."
            )

    def sizes(self, batch: int, accumulate: int) -> dict[str, int]:
        """Devices per axis, for the devices at hand.

        Raises:
          ConfigError: they do not divide the devices, or the batch.
        """
        devices = jax.device_count()
        model = self.fsdp * self.tensor
        data = self.data or max(devices // model, 1)
        if data * model > devices or (self.data is None and data * model != devices):
            raise ConfigError(
                f"parallel: data={data} x fsdp={self.fsdp} x tensor={self.tensor} does not fit {devices} devices."
            )
        shares = data * self.fsdp * accumulate
        if batch % shares:
            raise ConfigError(
                f"loader.batch={batch} is not divisible by {data * self.fsdp} devices x train.accumulate={accumulate}:"
                f" choose a multiple of {shares}."
            )
        return {"data": data, "fsdp": self.fsdp, "tensor": self.tensor}

    def layout(self, batch: int, accumulate: int) -> "Jit | Pmap":
        """The layout for the devices at hand."""
        sizes = self.sizes(batch, accumulate)
        return Jit(sizes) if self.mode == "jit" else Pmap(sizes["data"])


class Jit:
    """One program over a mesh; XLA puts in the collectives."""

    axis = None

    def __init__(self, sizes: dict[str, int]):
        shape = tuple(sizes[a] for a in AXES)
        devices = np.array(jax.devices()[: int(np.prod(shape))]).reshape(shape)
        self.mesh = jax.sharding.Mesh(devices, AXES, axis_types=(AxisType.Auto,) * len(AXES))
        self.everywhere = NamedSharding(self.mesh, PartitionSpec())
        self.by_row = NamedSharding(self.mesh, PartitionSpec(("data", "fsdp")))

    def shardings(self, state):
        """Where each array of a state lives: matrices are cut along their last axis by `tensor`, and everything along
        the longest other axis by `fsdp`, where the sizes divide. A carried state is cut as batches are."""
        shares = self.mesh.shape["data"] * self.mesh.shape["fsdp"]
        # Evaluation loads a state whatever the devices are.
        rows = lambda leaf: self.everywhere if leaf.shape[0] % shares else self.by_row
        return _by_row(rows, self._where, state)

    def _where(self, leaf, fsdp: bool = True) -> NamedSharding:
        spec: list = [None] * len(leaf.shape)
        if len(spec) > 1 and leaf.shape[-1] % self.mesh.shape["tensor"] == 0:
            spec[-1] = "tensor"
        free = [d for d, cut in enumerate(spec) if cut is None and leaf.shape[d] % self.mesh.shape["fsdp"] == 0]
        if free and fsdp:
            spec[max(free, key=lambda d: leaf.shape[d])] = "fsdp"
        return NamedSharding(self.mesh, PartitionSpec(*spec))

    def use(self, params):
        """Parameters as the model reads them, and gradients as they come back: whole along fsdp.

        Left to itself, XLA silently computes wrong gradients of a scan whose weights are cut by fsdp and tensor while
        data is larger than one (jax 0.10.2 and 0.12.0).
        """
        return jax.lax.with_sharding_constraint(params, jax.tree.map(lambda p: self._where(p, fsdp=False), params))

    def init(self, make_state):
        """Makes a state in place, each device its own part."""
        return jax.jit(make_state, out_shardings=self.shardings(jax.eval_shape(make_state)))()

    def abstract(self, shapes):
        """Shapes, dtypes and shardings that a checkpoint is restored to."""
        return jax.tree.map(
            lambda s, where: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where), shapes, self.shardings(shapes)
        )

    def compile(self, train_step, state):
        """The step over this mesh; the state is reused in place."""
        where = self.shardings(state)
        return jax.jit(
            train_step,
            in_shardings=(where, self.everywhere, self.by_row),
            out_shardings=(where, self.everywhere),
            donate_argnums=0,
        )

    def spread(self, tree):
        """A tree on the host or one device -> as the compiled step takes it (parameters have their own shardings)."""
        return jax.device_put(tree, self.everywhere)

    def gather(self, tree):
        """As the compiled step gives it -> plain arrays."""
        return tree


class Pmap:
    """The same program on every device, each with its share of the batch; gradients meet in a psum."""

    axis = "data"

    def __init__(self, devices: int):
        self.devices = jax.devices()[:devices]

    def use(self, params):
        return params

    def init(self, make_state):
        return self.spread(jax.jit(make_state)())

    def abstract(self, shapes):
        where = jax.sharding.SingleDeviceSharding(self.devices[0])
        return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where), shapes)

    def compile(self, train_step, state):
        step = jax.pmap(train_step, axis_name=self.axis, devices=self.devices, donate_argnums=0)
        n = len(self.devices)
        share = lambda a: a.reshape(n, a.shape[0] // n, *a.shape[1:])
        return lambda state, totals, batch: step(state, totals, jax.tree.map(share, batch))

    def spread(self, tree):
        n = len(self.devices)
        mesh = jax.sharding.Mesh(np.array(self.devices), (self.axis,), axis_types=(AxisType.Auto,))
        where = NamedSharding(mesh, PartitionSpec(self.axis))
        share = lambda a: np.asarray(a).reshape(n, -1, *a.shape[1:])
        copies = lambda a: np.broadcast_to(np.asarray(a), (n, *a.shape))
        return jax.device_put(_by_row(share, copies, tree), where)

    def gather(self, tree):
        return _by_row(lambda a: a.reshape(-1, *a.shape[2:]), lambda a: a[0], tree)
