"""The contract of an embedding."""

from typing import Annotated

from seqjax.module import Module
from seqjax.spec import Spec
from seqjax.types import Count, Dtype, Injected


class Embed(Module, kw_only=True):
    """Map of what the model reads of a batch to vectors of `width` features.

    `inputs` is the spec of the data source, and `field` the name of the field that x is. `tied`: the head uses the same
    vectors, through `attend`. A masked token has no effect. Products run in `dtype`, and x_BLD has that dtype.
    """

    inputs: Annotated[Spec, Injected]
    field: Annotated[str, Injected] = "tokens"
    width: Annotated[Count, Injected]
    dtype: Annotated[Dtype, Injected] = "float32"
    tied: Annotated[bool, Injected] = False

    kind = None  # the kind of the field that it reads; None: it reads several fields
    tieable = False  # whether it has `attend`

    def __post_init__(self):
        super().__post_init__()
        fields = {name: field.kind for name, field in self.inputs.fields.items()}
        if self.kind is not None and fields.get(self.field) != self.kind:
            have = ", ".join(f"{name} ({kind})" for name, kind in fields.items())
            raise ValueError(
                f"{type(self).__name__} embeds {self.field} ({self.kind}), but the data have {have}: choose another "
                "model.embed, or other data."
            )

    def __call__(self, x, mask_BL=None, deterministic=True):
        """Embeds a sequence, which may become shorter.

        Args:
          x: ids (B, L), vectors (B, L, F), or a dict of such arrays: `Reads.x`.
          mask_BL: bool, True = real; None: all are real.
          deterministic: False draws dropout masks from the rng stream "dropout", if the embedding has dropout.

        Returns:
          x_BLD, and its mask.

        Raises:
          ValueError: x or the mask has the wrong shape or dtype.
        """
        raise NotImplementedError

    def attend(self, x_BLD, mask_BL=None):
        """The product of each x with the vectors of all ids, as a head: (B, L, D) -> logits (B, L, V)."""
        raise NotImplementedError
