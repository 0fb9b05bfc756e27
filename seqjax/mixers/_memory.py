"""The contract of a mixer that reads a second sequence."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax import masks
from seqjax.mixers._base import Mixer, describe


class MemoryMixer(Mixer):
    """Map x_BLD -> y_BLD that also reads a memory_BSD, another sequence of the same width.

    `prefill` turns the memory into the first state, once; from there on it is a mixer: state in -> state out, for a
    whole sequence, a chunk or a step. There is no mixing without a memory, so a state is always given, and a reset is
    a fresh start with the same memory. A row whose memory is empty reads zeros.
    """

    memory = True
    State: ClassVar[type]  # of what `prefill` returns: a NamedTuple of arrays (batch, ...), floats as in `Mixer`

    def prefill(self, memory_BSD, mask_BS=None):
        """The state before the first token of x: all that later calls need of the memory.

        Args:
          memory_BSD: the memory.
          mask_BS: bool, True = real.

        Raises:
          ValueError: a width, type or mask of another shape.
        """
        raise NotImplementedError

    @nn.nowrap
    def init_state(self, batch: int):
        raise ValueError(
            f"{type(self).__name__} reads a memory, from which its first state is made: call prefill(memory_BSD, "
            "mask_BS), or choose model.name='seq2seq', which does."
        )

    @nn.nowrap
    def check_memory(self, memory_BSD, mask_BS) -> None:
        """Raises ValueError with got, wanted and the fix unless memory and mask fit."""
        kind, got = type(self).__name__, f"memory_BSD is {memory_BSD.dtype}{list(memory_BSD.shape)}"
        if memory_BSD.ndim != 3 or memory_BSD.shape[-1] != self.width:
            raise ValueError(f"{got}, {kind} wants [B, S, {self.width}]: project it.")
        if 0 in memory_BSD.shape:
            raise ValueError(f"{got}, {kind} wants a row and a token at least: mask what is not there.")
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
                f"the state is {describe(state)}, {type(self).__name__} wants its {self.State.__name__} of {rows} "
                "rows: make it with prefill(memory_BSD, mask_BS)."
            )


def check_alone(mixers, whole: str) -> None:
    """Raises ValueError if one of the mixers of something that has no memory reads one."""
    for mixer in mixers:
        if mixer.memory:
            raise ValueError(
                f"{type(mixer).__name__} reads a memory, {whole} has none: choose model.name='seq2seq' and put it into "
                "model.cross_attention or model.mixer."
            )
