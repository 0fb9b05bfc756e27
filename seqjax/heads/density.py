"""The density of each token, as the model gives it."""

from seqjax import masks
from seqjax.heads._base import Head


class Density(Head, kw_only=True):
    """The log of a density per token, for models that give one themselves: it has no parameters.

    Raises:
      ValueError: the model gives vectors.
    """

    density = True

    def __call__(self, x_BL, mask_BL=None):
        if x_BL.ndim != 2:
            raise ValueError(
                f"a density is one number per token [B, L], this model gives {list(x_BL.shape)}: choose a model of "
                "densities, such as one with emissions, or a task that reads vectors."
            )
        return masks.fill(x_BL, mask_BL)


Head = Density
