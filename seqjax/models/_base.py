"""The contract of a model."""

from collections.abc import Callable
from typing import Annotated

from flax import linen as nn

from seqjax.mixers._base import one_token
from seqjax.module import Module
from seqjax.spec import Spec
from seqjax.types import Injected


class Model(Module, kw_only=True):
    """Map of a sequence to predictions.  State in -> state out; None in -> None out.

    Training, evaluation and decoding read nothing else of a model than what is written here, so a subclass that
    defines only `__call__` can be trained. Masked tokens and resets mean what they mean for a mixer.

    `inputs` is the spec of the data source. `head` is a factory that the task gives: `head(inputs=..., width=...,
    dtype=...)` makes the module that turns x_BLD into the prediction (`seqjax.heads`).
    """

    inputs: Annotated[Spec, Injected]
    head: Annotated[Callable, Injected]

    ahead = ()  # the names of the parts that see later tokens
    prefix = 0  # the first `prefix` tokens of a document all see each other, in both directions
    capacity = None  # the number of tokens of one document that the state holds; None: any number
    embeds = False  # whether it has `embeddings`, and reads `embedded` in their place: `training.net.Net`
    counted = False  # whether its parameters are counted before the first step, and no learner may change them
    indices = ()  # names of parameters that are indices of a table and the like: they do not count as parameters
    sized_by = "width"  # the option that a comparison changes to give it another size
    side = ()  # what it reads of `Reads.side`: names of keyword arguments of `__call__`
    begins = False  # whether it has `begin`
    solvable = False  # whether its parameters follow from expected counts: `training.learners._counts`

    @property
    def causal(self) -> bool:
        """Whether no prediction depends on later tokens."""
        return not self.ahead

    @property
    def whole(self) -> list[str]:
        """The names of the parts that need a whole sequence on one device."""
        return [type(self).__name__]

    @property
    def cuttable(self) -> bool:
        """Whether a sequence may be split over devices: `seqjax.ops.ring`."""
        return not self.whole

    @nn.nowrap
    def stack(self, **kwargs) -> list:
        """Its blocks, each with a state of its own; unbound unless called in `setup`."""
        return []

    @nn.nowrap
    def init_state(self, batch: int):
        """The state before the first token, a pytree of arrays (batch, ...). Needs no parameters.

        Raises:
          ValueError: the model has no state, or makes it from a second sequence.
        """
        raise ValueError(f"{type(self).__name__} has no state: it reads whole sequences.")

    def prefill(self, source_BS, mask_BS=None):
        """The state before the first token of a model that reads a second sequence.

        Raises:
          ValueError: the model reads no second sequence.
        """
        raise ValueError(f"{type(self).__name__} reads no second sequence: leave source_BS out.")

    @nn.nowrap
    def begin(self, params, x, key, *, mask_BL=None, reset_BL=None, **known):
        """The parameters before the first step, from the first batch: concrete arrays, on the host.

        Args:
          params: random ones. key: for what is random in it.
          known: side inputs, and what is known of hidden variables: `tasks.Task.known`.

        Raises:
          ValueError: the batch does not determine the parameters.
        """
        raise NotImplementedError

    def __call__(self, x, state=None, *, mask_BL=None, reset_BL=None, deterministic=True, **side):
        """Reads a sequence, or continues from `state`.

        Args:
          x: tokens (B, L), features (B, L, F), or a dict of such arrays.
          state: from `init_state` or an earlier call; None starts a new document and returns None as the state.
          mask_BL: bool, True = real.
          reset_BL: bool, True = a new document starts here.
          deterministic: False draws dropout masks from the rng stream "dropout".
          side: the inputs that are named in `self.side`.

        Returns:
          The prediction, and the state after the last token.

        Raises:
          ValueError: an input has the wrong shape.
        """
        raise NotImplementedError

    def step(self, x_B, state, *, mask_B=None, reset_B=None, **side):
        """Reads one token, as a sequence of length one. `side` without the axis L: `elapsed_BF`, not `elapsed_BLF`."""
        return one_token(self, x_B, state, mask_B, reset_B, side)
