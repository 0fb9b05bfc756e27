"""The base of mixers and models."""

from flax import linen as nn

from seqjax.types import check_fields


class Module(nn.Module):
    """A Linen module whose fields are checked against their annotations when it is built."""

    vectors = ()  # names of parameters that are vectors although they have several axes, such as one vector per head

    def __post_init__(self):
        check_fields(self)
        super().__post_init__()
