"""The contract of a mixer."""

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax import masks
from seqjax.module import Module
from seqjax.types import Count, Dtype, Injected, Part

Mixers = Annotated[Callable | tuple, Part("seqjax.mixers", "Mixer", many=True)]
Family = Literal["recurrent", "linear recurrence", "attention", "convolution", "two sequences", "wrapper", "other"]


class Mixer(Module):
    """Causal map x_BLD -> y_BLD.  State in -> state out; None in -> None out.

    A masked token has no effect: it does not change the state, takes no position and gives zero, even if its input is
    NaN. A reset on a real token starts a new document: the token sees nothing before it, if all earlier inputs are
    finite. `seqjax.testing.laws` has these laws, and `seqjax laws` tests them.

    Matrix products run in `dtype`, and the output has the dtype of the input. Parameters, recurrent states, softmax and
    norm statistics are float32.
    """

    width: Annotated[Count, Injected]
    dtype: Annotated[Dtype, Injected] = "float32"

    family: ClassVar[Family] = "other"  # `seqjax list` and the reference group mixers by it
    causal = True  # no output depends on later tokens; a mixer that is not causal has no state
    memory = False  # whether the mixer reads a second sequence: `seqjax.mixers._memory`
    prefix = 0  # the first `prefix` tokens of a document all see each other, in both directions
    cuttable = False  # whether a sequence may be split over devices: `seqjax.ops.ring`
    capacity = None  # the number of tokens of one document that the state holds; None: any number
    side = ()  # names of further inputs that it reads, such as "elapsed_BLF": keyword arguments of `__call__`

    @nn.nowrap
    def init_state(self, batch: int):
        """The state before the first token, a pytree of arrays (batch, ...). Needs no parameters.

        Raises:
          ValueError: the mixer sees later tokens.
        """
        if self.causal:
            raise NotImplementedError
        raise ValueError(
            f"{type(self).__name__} sees later tokens and has no state: choose a causal mixer to run step by step."
        )

    def __call__(self, x_BLD, state=None, *, mask_BL=None, reset_BL=None, deterministic=True):
        """Mixes a sequence, or continues from `state`.

        Args:
          x_BLD: the input.
          state: from `init_state` or an earlier call; None starts a new document and returns None as the state.
          mask_BL: bool, True = real.
          reset_BL: bool, True = a new document starts here.
          deterministic: False draws dropout masks from the rng stream "dropout", if the mixer has dropout.

        Returns:
          y_BLD in the dtype of x, and the state after the last token.

        Raises:
          ValueError: the width, a mask or the state has the wrong shape.
        """
        raise NotImplementedError

    def step(self, x_BD, state, *, mask_B=None, reset_B=None, **side):
        """Mixes one token, as a sequence of length one: (B, D) -> (B, D). `side` has no axis L: `elapsed_BF`."""
        return one_token(self, x_BD, state, mask_B, reset_B, side)

    @nn.nowrap
    def pick(self, side: dict) -> dict:
        """The side inputs that this mixer reads, out of all that are given.

        Raises:
          ValueError: one of them is not given.
        """
        if missing := [name for name in self.side if name not in side]:
            raise ValueError(
                f"{type(self).__name__} reads {missing[0]}, and it is not given: choose a task that gives it "
                "(`Reads.side`), or another mixer."
            )
        return {name: side[name] for name in self.side}

    @nn.nowrap
    def check(self, x_BLD, state, mask_BL, reset_BL) -> None:
        """Raises ValueError unless all inputs fit together; the message gives got, wanted and the fix."""
        kind = type(self).__name__
        if x_BLD.ndim != 3 or x_BLD.shape[-1] != self.width:
            raise ValueError(
                f"x_BLD is {list(x_BLD.shape)}, {kind} wants [B, L, {self.width}]: set model.width to the input's."
            )
        if 0 in x_BLD.shape:
            raise ValueError(
                f"x_BLD is {list(x_BLD.shape)}, {kind} wants at least one row and one token: do not call it with an "
                "empty array."
            )
        if not jnp.issubdtype(x_BLD.dtype, jnp.floating):
            raise ValueError(
                f"x_BLD is {x_BLD.dtype}{list(x_BLD.shape)}, {kind} wants floating-point numbers: embed tokens first."
            )
        masks.check(mask_BL, x_BLD.shape[:2])
        masks.check(reset_BL, x_BLD.shape[:2], "reset_BL")
        if state is not None:
            check_state(kind, state, self.init_state, x_BLD.shape[0])


def factories(mixers, name: str) -> list[Callable]:
    """One factory, or several: -> a list of them. Raises ValueError if it is empty; `name` is its key in a config."""
    mixers = list(mixers) if isinstance(mixers, (tuple, list)) else [mixers]
    if not mixers:
        raise ValueError(f"{name} is an empty list: give at least one mixer.")
    return mixers


def cycle(mixers, layers: int, name: str) -> list[Callable]:
    """One factory per layer: `mixers` is one factory, or several that the layers cycle through.

    Raises:
      ValueError: there is none, or there are more than layers; `name` is their key in a config.
    """
    mixers = factories(mixers, name)
    if len(mixers) > layers:
        raise ValueError(
            f"{name} lists {len(mixers)} mixers, one per layer in turn, but the number of layers is {layers}: shorten "
            f"the list, or set the number of layers to at least {len(mixers)}."
        )
    return [mixers[i % len(mixers)] for i in range(layers)]


def least_capacity(mixers) -> int | None:
    """The smallest `capacity` of the mixers, in tokens of one document; None: any number."""
    return min((mixer.capacity for mixer in mixers if mixer.capacity is not None), default=None)


def check_heads(width: int, heads: int, kv_heads: int | None = None) -> None:
    """Raises ValueError unless `heads` divides `width` and `kv_heads` divides `heads`."""
    if width % heads:
        raise ValueError(f"mixer.heads={heads} does not divide model.width={width}: choose a divisor of the width.")
    if heads % (kv_heads or 1):
        raise ValueError(
            f"mixer.kv_heads={kv_heads} does not divide mixer.heads={heads}: choose a divisor of mixer.heads."
        )


def sides(mixers) -> tuple[str, ...]:
    """The names of the side inputs that any of the mixers reads."""
    return tuple(dict.fromkeys(name for mixer in mixers for name in mixer.side))


def one_token(module, x_BX, state, mask_B, reset_B, side):
    """The step of any module with the signature of a mixer: it runs a sequence of length one."""
    widen = lambda a: None if a is None else a[:, None]
    side = {name.replace("_B", "_BL", 1): widen(a) for name, a in side.items()}
    y_BLX, state = module(jax.tree.map(widen, x_BX), state, mask_BL=widen(mask_B), reset_BL=widen(reset_B), **side)
    return y_BLX[:, 0], state


def describe(state):
    """A copy of a state for error messages: each array is replaced by its dtype and shape."""
    return jax.tree.map(lambda a: f"{jnp.result_type(a)}{list(jnp.shape(a))}", state)


def check_state(kind: str, state, init_state, batch: int) -> None:
    """Raises ValueError unless a state has the structure, shapes and dtypes of `init_state(batch)`."""
    wanted = jax.eval_shape(lambda: init_state(batch))
    if jax.tree.structure(state) != jax.tree.structure(wanted) or describe(state) != describe(wanted):
        raise ValueError(
            f"the state is {describe(state)}, {kind} wants {describe(wanted)}: make it with init_state({batch})."
        )
