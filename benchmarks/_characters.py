"""A text with only a training split."""

import dataclasses

from seqjax.data.reference import Reference


@dataclasses.dataclass(kw_only=True)
class Source(Reference):
    """The Python language reference without a validation split, because every run would evaluate it at its end."""

    def __post_init__(self):
        super().__post_init__()
        self.spec = dataclasses.replace(self.spec, splits=("train",))
