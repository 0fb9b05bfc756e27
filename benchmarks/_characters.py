"""A text to train on, and nothing else."""

import dataclasses

from seqjax.data.reference import Reference


@dataclasses.dataclass(kw_only=True)
class Source(Reference):
    """The Python language reference without a validation split, which every run would end with."""

    def __post_init__(self):
        super().__post_init__()
        self.spec = dataclasses.replace(self.spec, splits=("train",))
