"""Give each token a high density, without labels."""

import dataclasses
from collections.abc import Callable
from typing import Annotated

from seqjax.heads.density import Density as Head
from seqjax.metrics import Ratio
from seqjax.tasks import _base
from seqjax.types import Part


@dataclasses.dataclass(frozen=True)
class Density(_base.Task):
    """Density: minus the log-likelihood per token.

        loss = - mean_t log p(x_t | x_0 ... x_{t-1})      in nats, over all real tokens

    Of `tokens` it is a cross-entropy. Of `features` p is a density, so the loss may be negative and changes with the
    units of the data: compare only models of the same features, never with bits of tokens. The first token counts, too.
    """

    head: Annotated[Callable, Part("seqjax.heads", "Head")] = Head

    causal = True

    def outputs(self):
        return 1

    def loss(self, prediction, batch):
        return {"loss": Ratio.of(-prediction, batch["mask"] * batch["weight"][:, None])}


Task = Density
