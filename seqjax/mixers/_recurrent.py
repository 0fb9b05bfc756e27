"""The base class of the classical recurrent cells."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax import masks
from seqjax.mixers._base import Mixer
from seqjax.ops import dense, scan
from seqjax.types import Fraction


class Begun(NamedTuple):
    """A state, and for each row whether it has begun: 0 before the first token, 1 after it."""

    state: tuple
    begun_B: jax.Array


class Recurrent(Mixer):
    """A cell scanned over time. Subclasses set `gates` and `cell`, and `fast` if they have a hand-written op.

    The input kernel (D, G*N) starts with fan-in variance (LeCun), the recurrent kernel (N, G*N) starts orthogonal per
    gate. The state is float32.

    `initial_state`: "learned" makes the state before the first token (and after a reset) a parameter.
    `variational_dropout`: one dropout mask per row for all its tokens, on x and on the h that the recurrent kernel
      multiplies (Gal and Ghahramani 2016, arXiv:1512.05287).
    `recurrent_dropout`: a new mask per token on the candidate update (Semeniuta et al. 2016, arXiv:1603.05118).
    `weight_dropout`: drops single weights of the recurrent kernel, for the whole call (Merity et al. 2017,
      arXiv:1708.02182).
    `zoneout`: the share p of units that keep their old state (Krueger et al. 2016, arXiv:1606.01305); in evaluation the
      new state of each unit is p times the old one plus 1 - p times the update.
    `remat`: "chunk" keeps one state per chunk of tokens for the backward pass instead of all gates. Cells without a
      `fast` op, and cells with options inside, still keep the inputs of their gates.
    """

    initial_state: Literal["zeros", "learned"] = "zeros"
    variational_dropout: Fraction = 0.0
    recurrent_dropout: Fraction = 0.0
    weight_dropout: Fraction = 0.0
    zoneout: Fraction = 0.0
    remat: Literal["none", "chunk"] = "none"

    family = "recurrent"
    gates = 1  # how many blocks the kernels hold
    free = None  # the first `free` entries of a state may be learned or zoned out independently; None: all entries

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the arrays of a state without the batch axis; h is first, the one with the candidate last."""
        return ((self.width,),)

    def setup(self):
        D, G, (N,) = self.width, self.gates, self.shapes[-1]
        self.kernel = self.param("kernel", nn.initializers.lecun_normal(), (D, G * N))
        self.recurrent = self.param("recurrent", self.init_recurrent, (D, G * N))
        self.bias = self.param("bias", self.init_bias, (G * N,))
        self.setup_start()

    def setup_start(self):
        """Makes the parameters of a learned initial state; `zero_state` is added to them."""
        if self.initial_state == "learned":
            zeros = nn.initializers.zeros
            self.start = [self.param(f"initial_{i}", zeros, shape) for i, shape in enumerate(self.shapes[: self.free])]

    def init_recurrent(self, key, shape, dtype=jnp.float32):
        return orthogonal_blocks(self.gates)(key, shape, dtype)

    def init_bias(self, key, shape, dtype=jnp.float32):
        return jnp.zeros(shape, dtype)

    @nn.nowrap
    def zero_state(self, batch: int) -> tuple:
        """The state before the first token, unless the initial state is learned."""
        return tuple(jnp.zeros((batch, *shape), jnp.float32) for shape in self.shapes)

    @nn.nowrap
    def init_state(self, batch: int):
        return self._pack(self.zero_state(batch), jnp.zeros((batch,), jnp.int32))

    @nn.nowrap
    def _pack(self, state, begun_B):
        state = state[0] if len(state) == 1 else state
        return Begun(state, begun_B) if self.initial_state == "learned" else state

    @nn.nowrap
    def _unpack(self, state, initial):
        if self.initial_state == "learned":
            state, begun_B = state
        state = state if isinstance(state, tuple) else (state,)
        if self.initial_state == "learned":
            begun = lambda a: begun_B.reshape(-1, *(1,) * (a.ndim - 1)) > 0
            state = jax.tree.map(lambda a, first: jnp.where(begun(a), a, first), state, initial)
        return state

    def __call__(self, x_BLD, state=None, *, mask_BL=None, reset_BL=None, deterministic=True):
        self.check(x_BLD, state, mask_BL, reset_BL)
        B = x_BLD.shape[0]
        initial = self.zero_state(B)
        if self.initial_state == "learned":
            learned = [zero + self.row(first, B) for zero, first in zip(initial, self.start, strict=False)]
            initial = (*learned, *initial[len(learned) :])
        before = initial if state is None else self._unpack(state, initial)
        drawn = not deterministic
        x_cast_BLD = masks.fill(x_BLD, mask_BL).astype(self.dtype)
        if drawn and self.variational_dropout:
            x_cast_BLD = x_cast_BLD * self.draw(self.variational_dropout, (B, 1, self.width)).astype(self.dtype)
        recurrent = self.recurrent
        if drawn and self.weight_dropout:
            recurrent = recurrent * self.draw(self.weight_dropout, recurrent.shape)
        noisy = drawn and (self.variational_dropout or self.recurrent_dropout)
        flags = dict(mask_BL=mask_BL, reset_BL=reset_BL, remat=self.remat == "chunk")
        if noisy or self.zoneout or not self.is_plain:
            y_BLX, after = self.generic(x_cast_BLD, recurrent, before, initial, drawn, **flags)
        else:
            y_BLX, after = self.fast(x_cast_BLD, recurrent, before, initial, **flags)
        if state is not None:
            real_B = True if mask_BL is None else mask_BL.any(axis=1)
            after = self._pack(after, jnp.maximum(getattr(state, "begun_B", 0), jnp.ones((B,), jnp.int32) * real_B))
        return y_BLX.reshape(x_BLD.shape).astype(x_BLD.dtype), None if state is None else after

    @property
    def is_plain(self) -> bool:
        """Whether `fast` computes this cell with these options."""
        return True

    def fast(self, x_BLD, recurrent, before, initial, **flags):
        """Calls the hand-written op of this cell; `flags` are its mask_BL, reset_BL and remat: -> y, state."""
        raise NotImplementedError

    def generic(self, x_BLD, recurrent, before, initial, drawn, **flags):
        """The cell as a function of one token, with all options: -> y, state."""
        B, L, _ = x_BLD.shape
        step, u, rows = self.cell, {"x": self.inputs(x_BLD)}, self.rows(B)
        if drawn and self.recurrent_dropout:
            u["update"] = self.draw(self.recurrent_dropout, (B, L, *self.shapes[-1]))
        if drawn and self.variational_dropout:
            step, rows = scan.Variational(step), rows | {"drop": self.draw(self.variational_dropout, before[0].shape)}
        if self.zoneout:
            zoned = len(before[: self.free])
            step = scan.Zoneout(step, (1 - self.zoneout,) * zoned)
            if drawn:
                shape = lambda a: (B, L, *a.shape[1:])
                u["new"] = tuple(self.draw(self.zoneout, shape(a)) * (1 - self.zoneout) for a in before[:zoned])
        return scan.recur(step, u, self.weights(recurrent), rows, before, initial, dtype=self.dtype, **flags)

    @property
    def cell(self):
        """The cell: a function of `seqjax.ops.cells`."""
        raise NotImplementedError

    def inputs(self, x_BLD):
        """The input part of all gates: (B, L, G*N), float32."""
        u_BLM = dense.einsum("BLD,DM->BLM", x_BLD, self.kernel, self.dtype, out=jnp.float32)
        return u_BLM + self.bias[None, None]

    def weights(self, recurrent) -> dict:
        """The recurrent weights, under the names that the cell uses."""
        return {"recurrent": recurrent}

    def rows(self, batch: int) -> dict:
        """Further arrays that the cell reads, (B, ...) each and the same for all tokens."""
        return {}

    def row(self, parameter, batch: int):
        """A parameter, copied once per row: its gradient is then summed over rows after the loop, not inside it."""
        return jnp.broadcast_to(parameter[None], (batch, *parameter.shape))

    def draw(self, rate: float, shape):
        """A dropout mask: 0 at `rate`, else 1 / (1 - rate)."""
        return jax.random.bernoulli(self.make_rng("dropout"), 1 - rate, shape) / (1 - rate)


def forget_open(bias: float, shape, dtype):
    """The initial biases of four gates: `bias` for the second, which is the forget gate, and zero for the others."""
    N = shape[0] // 4
    return jnp.zeros(shape, dtype).at[N : 2 * N].set(bias)


def orthogonal_blocks(gates: int):
    """An initializer that makes each gate's block orthogonal, so that no gate shrinks the state at the start."""
    one = nn.initializers.orthogonal()

    def init(key, shape, dtype=jnp.float32):
        keys = jax.random.split(key, gates)
        return jnp.concatenate([one(k, (*shape[:-1], shape[-1] // gates), dtype) for k in keys], axis=-1)

    return init
