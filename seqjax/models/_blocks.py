"""The pre-norm residual stack that all models share."""

from typing import Literal

import jax
from flax import linen as nn

from seqjax import masks
from seqjax.mixers._base import Mixers, check_state, cycle, least_capacity, sides
from seqjax.mixers._layers import Dense
from seqjax.mixers._memory import check_alone
from seqjax.models._base import Model
from seqjax.ops import ring
from seqjax.types import Count, Dtype, Fraction, Layers, NonNegative

Norm = Literal["layer", "rms"]
Form = Literal["gelu", "geglu", "swiglu"]


def norm(kind: Norm, dtype: Dtype, name: str | None = None):
    """Layer norm or RMS norm with float32 statistics."""
    return {"layer": nn.LayerNorm, "rms": nn.RMSNorm}[kind](dtype=dtype, name=name)


def dropout(rate: float, locked: bool, **flags):
    """Dropout; `locked`: with one mask per row for all its tokens (B, L, D)."""
    return nn.Dropout(rate, broadcast_dims=(1,) if locked else (), **flags)


class MLP(nn.Module):
    """A layer that is `expansion` times as wide as x, and back: W_2 gelu(W_1 x + b_1) + b_2.

    The gated forms have a third matrix: W_2 (f(W_3 x + b_3) * (W_1 x + b_1)) + b_2, f = gelu ("geglu") or silu
    ("swiglu"). Shazeer 2020, "GLU variants improve Transformer", arXiv:2002.05202.
    """

    width: int
    expansion: float
    form: Form
    dtype: Dtype

    @nn.compact
    def __call__(self, x_BLD):
        dense = lambda name: Dense(int(self.width * self.expansion), dtype=self.dtype, name=name)
        hidden_BLM = dense("up")(x_BLD)
        if self.form == "gelu":
            hidden_BLM = jax.nn.gelu(hidden_BLM)
        else:
            f = jax.nn.gelu if self.form == "geglu" else jax.nn.silu
            hidden_BLM = f(dense("gate")(x_BLD)) * hidden_BLM
        return Dense(self.width, dtype=self.dtype, name="down")(hidden_BLM)


class Block(nn.Module):
    """x + mixer(norm(x)), then x + MLP(norm(x)). It has the signature of a mixer and obeys the same laws.

    Xiong et al. 2020, "On layer normalization in the Transformer architecture", arXiv:2002.04745.
    """

    mixer: nn.Module
    width: int
    expansion: float
    dropout: float
    norm: Norm
    mlp: Form
    dtype: Dtype
    locked: bool = False

    @nn.nowrap
    def init_state(self, batch: int):
        return self.mixer.init_state(batch)

    def prefill(self, memory_BSD, mask_BS=None):
        """The state before the first token, if the mixer reads a memory."""
        return self.mixer.prefill(memory_BSD, mask_BS)

    @nn.compact
    def __call__(self, x_BLD, state=None, *, mask_BL=None, reset_BL=None, deterministic=True, **side):
        self.mixer.check(x_BLD, state, mask_BL, reset_BL)
        x_BLD, dtype = masks.fill(x_BLD, mask_BL), x_BLD.dtype
        drop = dropout(self.dropout, self.locked, deterministic=deterministic)
        normed_BLD = norm(self.norm, self.dtype, "norm_mixer")(x_BLD)
        flags = dict(mask_BL=mask_BL, reset_BL=reset_BL, deterministic=deterministic)
        y_BLD, state = self.mixer(normed_BLD, state, **flags, **side)
        dropped_BLD = drop(y_BLD)
        if self.is_mutable_collection("activations") and not self.is_initializing():
            self.sow("activations", "mixed", (y_BLD, dropped_BLD))
        x_BLD = x_BLD + dropped_BLD
        if self.expansion:
            normed_BLD = norm(self.norm, self.dtype, "norm_mlp")(x_BLD)
            x_BLD = x_BLD + drop(MLP(self.width, self.expansion, self.mlp, self.dtype, name="mlp")(normed_BLD))
        return masks.fill(x_BLD, mask_BL).astype(dtype), state


class Backbone(Model, kw_only=True):
    """The base class of models that are a stack of blocks: their common fields, and the stack.

    `width`: features per token. `layers`: the number of blocks.
    `mixer`: a factory, called once per layer with the width: a class or a `functools.partial`. It may also be a
      tuple of factories that the layers cycle through (a hybrid).
    `expansion`: the width of the MLP after each mixer, as a multiple of `width`; 0 leaves the MLPs out. `mlp`: its
      form; a gated one, with a third matrix, has as many parameters as "gelu" if its expansion is 2 / 3 of that.
    `dropout`: the rate, on the output of each mixer and MLP. `input_dropout`: on the embeddings; None: as `dropout`.
      `output_dropout`: on what the head reads. `locked_dropout`: each of these draws one mask per row for all its
      tokens (variational dropout, as in the AWD-LSTM: Merity et al. 2017, arXiv:1708.02182).
    `norm`: "layer" or "rms", before each mixer and MLP, and at the end.
    `dtype`: of products ("bfloat16" and "float16" are mixed precision). Parameters, states, norms, losses and all sums
      over tokens stay float32.
    """

    width: Count = 128
    layers: Layers = 2
    mixer: Mixers
    expansion: NonNegative = 4.0
    dropout: Fraction = 0.0
    input_dropout: Fraction | None = None
    output_dropout: Fraction = 0.0
    locked_dropout: bool = False
    norm: Norm = "layer"
    mlp: Form = "gelu"
    dtype: Dtype = "float32"

    def __post_init__(self):
        super().__post_init__()
        self.check_reads([block.mixer for block in self.stack(parent=None)])  # builds all mixers: bad options fail now

    @nn.nowrap
    def check_reads(self, mixers) -> None:
        """Raises ValueError if a mixer needs a second sequence or the data has one: this model reads only one."""
        check_alone(mixers, "this model")
        if self.inputs.source_vocabulary is not None:
            raise ValueError(
                "the examples of this data have a source, which this model does not read: choose a model with an "
                "encoder, or other data."
            )

    @nn.nowrap
    def stack(self, **kwargs) -> list[Block]:
        """One block per layer; unbound unless called in `setup`."""
        return [self.block(mixer, **kwargs) for mixer in cycle(self.mixer, self.layers, "model.mixer")]

    @nn.nowrap
    def block(self, mixer, expansion: float | None = None, **kwargs) -> Block:
        """A block around the mixer that the factory makes."""
        inner = mixer(width=self.width, dtype=self.dtype, parent=None)
        expansion = self.expansion if expansion is None else expansion
        if expansion and int(self.width * expansion) < 1:
            raise ValueError(
                f"model.expansion={expansion} times model.width={self.width} is less than one feature: raise "
                "model.expansion, or set it to 0 for no MLP."
            )
        how = (self.dropout, self.norm, self.mlp, self.dtype, self.locked_dropout)
        return Block(inner, self.width, expansion, *how, **kwargs)

    @property
    def prefix(self) -> int:
        """The largest `prefix` of the mixers, in tokens."""
        return max(block.mixer.prefix for block in self.stack(parent=None))

    @property
    def ahead(self) -> list[str]:
        """The names of the mixers that see later tokens."""
        return [type(b.mixer).__name__ for b in self.stack(parent=None) if not b.mixer.causal]

    @property
    def side(self) -> tuple[str, ...]:
        """The names of all side inputs that the mixers read."""
        return sides(block.mixer for block in self.stack(parent=None))

    @property
    def whole(self) -> list[str]:
        """The names of the mixers that need a whole sequence on one device."""
        return [type(b.mixer).__name__ for b in self.stack(parent=None) if not b.mixer.cuttable]

    @property
    def capacity(self) -> int | None:
        """How many tokens of one document the states hold; None: any number."""
        return least_capacity(block.mixer for block in self.stack(parent=None))

    @nn.nowrap
    def init_state(self, batch: int):
        """One state per layer."""
        return tuple(block.init_state(batch) for block in self.stack(parent=None))

    @nn.nowrap
    def check_state(self, state, batch: int) -> None:
        """Raises ValueError unless a state is one of this model."""
        check_state(type(self).__name__, state, self.init_state, batch)

    def setup(self):
        self.blocks = self.stack()
        first = self.dropout if self.input_dropout is None else self.input_dropout
        self.drop = dropout(first, self.locked_dropout)
        self.drop_out = dropout(self.output_dropout, self.locked_dropout)
        self.norm_out = norm(self.norm, self.dtype)

    def run(self, x_BLD, state, mask_BL, reset_BL, deterministic, side: dict):
        """Applies dropout, all blocks and the last norm: -> x_BLD, state.

        Raises:
          ValueError: a mixer reads a side input that is not given, or none reads one that is given.
        """
        if ring.devices(x_BLD.shape[1]) > 1 and self.whole:
            raise ValueError(
                f"{self.whole[0]} with these options needs whole sequences, but sequences are split over devices: "
                "choose another mixer, or set parallel.sequence=1."
            )
        x_BLD = self.drop(masks.fill(ring.spread(x_BLD), mask_BL), deterministic=deterministic)
        if state is not None:
            self.check_state(state, x_BLD.shape[0])
        states = (None,) * len(self.blocks) if state is None else state
        flags = dict(mask_BL=mask_BL, reset_BL=reset_BL, deterministic=deterministic)
        if unknown := set(side) - set(self.side):
            names = ", ".join(self.side) or "no side input"
            raise ValueError(f"got {', '.join(sorted(unknown))}, but the mixers of this model read {names}.")
        side = {name: masks.fill(ring.spread(a), mask_BL) for name, a in side.items()}
        x_BLD, after = through(self.blocks, x_BLD, states, side, **flags)
        x_BLD = self.norm_out(x_BLD)
        if self.is_mutable_collection("features") and not self.is_initializing():
            self.sow("features", "read", x_BLD)
        return self.drop_out(x_BLD, deterministic=deterministic), None if state is None else after


def through(blocks, x_BLD, states, side: dict, **flags):
    """Runs x through the blocks in order, each with its own state and the side inputs it reads: -> x_BLD, states."""
    after = []
    for block, before in zip(blocks, states, strict=True):
        x_BLD, new = block(x_BLD, before, **flags, **block.mixer.pick(side))
        after.append(new)
    return x_BLD, tuple(after)
