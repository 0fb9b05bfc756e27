"""The heads that tasks give to models; the same one for the same sizes, so that equal models share programs."""

import functools

from seqjax.heads.pooled import Pooled
from seqjax.heads.tokenwise import Tokenwise


@functools.cache
def logits(outputs):
    """One vector of logits per token."""
    return functools.partial(Tokenwise, outputs=outputs)


@functools.cache
def classes(outputs, **options):
    """One vector of logits per sequence."""
    return functools.partial(Pooled, outputs=outputs, **options)
