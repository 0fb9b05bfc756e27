"""The contract of a mixer that reads a second sequence."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax import masks
from seqjax.mixers._base import Mixer, describe


class MemoryMixer(Mixer):
    """Map x_BLD -> y_BLD that also reads memory_BSD, a second sequence of the same width.

    `prefill` turns the memory into the first state, once. After that the module works like every mixer: state in ->
    state out, for a whole sequence, a chunk or a step. It cannot work without a memory, so a state is always required.
    A reset starts a new document with the same memory. A row whose memory is empty reads zeros.
    """

    family = "two sequences"
    memory = True
    State: ClassVar[type]  # the type that `prefill` returns: a NamedTuple of arrays (batch, ...), dtypes as in `Mixer`

    def prefill(self, memory_BSD, mask_BS=None):
        """The state before the first token of x. It holds all that later calls need from the memory.

        Args:
          memory_BSD: the memory.
          mask_BS: bool, True = real.

        Raises:
          ValueError: the memory has the wrong shape or dtype, or the mask has the wrong shape.
        """
        raise NotImplementedError

    @nn.nowrap
    def init_state(self, batch: int):
        raise ValueError(
            f"{type(self).__name__} reads a memory, and its first state is made from that: call prefill(memory_BSD, "
            "mask_BS), or choose a model with an encoder, which calls it."
        )

    @nn.nowrap
    def check_memory(self, memory_BSD, mask_BS) -> None:
        """Raises ValueError unless memory and mask fit; the message gives got, wanted and the fix."""
        kind, got = type(self).__name__, f"memory_BSD is {memory_BSD.dtype}{list(memory_BSD.shape)}"
        if memory_BSD.ndim != 3 or memory_BSD.shape[-1] != self.width:
            raise ValueError(f"{got}, {kind} wants [B, S, {self.width}]: project it to that width.")
        if 0 in memory_BSD.shape:
            raise ValueError(f"{got}, {kind} wants at least one row and one token: pass one masked token instead.")
        if not jnp.issubdtype(memory_BSD.dtype, jnp.floating):
            raise ValueError(f"{got}, {kind} wants floating-point numbers: embed tokens first.")
        masks.check(mask_BS, memory_BSD.shape[:2], "mask_BS")

    @nn.nowrap
    def check(self, x_BLD, state, mask_BL, reset_BL) -> None:
        super().check(x_BLD, None, mask_BL, reset_BL)
        rows, leaves = x_BLD.shape[0], jax.tree.leaves(state)
        fits = isinstance(state, self.State) and all(a.shape[0] == rows for a in leaves)
        floats = {str(a.dtype) for a in leaves if fits and jnp.issubdtype(a.dtype, jnp.floating)}
        if not fits or floats - {"float32", self.dtype}:
            raise ValueError(
                f"the state is {describe(state)}, {type(self).__name__} wants the state {self.State.__name__} with "
                f"{rows} rows: make it with prefill(memory_BSD, mask_BS)."
            )


def check_alone(mixers, whole: str) -> None:
    """Raises ValueError if one of the mixers reads a memory. `whole` names the module around them, which has none."""
    for mixer in mixers:
        if mixer.memory:
            raise ValueError(
                f"{type(mixer).__name__} reads a memory, and {whole} has none: choose another mixer, or put it into "
                "the decoder of a model with an encoder."
            )
