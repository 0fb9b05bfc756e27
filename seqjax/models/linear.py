"""A linear map from a whole sequence to its future."""

import jax.numpy as jnp
from flax import linen as nn

from seqjax import masks
from seqjax.mixers._layers import Dense
from seqjax.models._base import Model as _Model
from seqjax.types import Dtype


class Linear(_Model, kw_only=True):
    """Linear: one matrix maps the last L values of each column to its next H values.

        y_hf = sum_l W_hl x_lf + b_h

    All columns share the matrix. It is the linear model that forecasters must beat: with `relative` in the task it is
    NLinear. Every sequence must be as long as the longest one of the data.

    Zeng et al. 2023, "Are Transformers effective for time series forecasting?", AAAI, arXiv:2205.13504.

    Raises:
      ValueError: the data has no features, or the task does not ask for H values of each column.
    """

    dtype: Dtype = "float32"

    def __post_init__(self):
        super().__post_init__()
        F, outputs = self.inputs.features, self.outputs
        if F is None or outputs % F:
            raise ValueError(
                f"a linear model maps {F or 0} features to as many columns, got {outputs} outputs: choose a task that "
                "forecasts features, or another model."
            )

    @property
    def outputs(self) -> int:
        """The size of a prediction, which the head of the task knows."""
        return self.head(inputs=self.inputs, width=1, parent=None).outputs

    @nn.compact
    def __call__(self, x_BLF, state=None, *, mask_BL=None, reset_BL=None, deterministic=True):
        """Features (B, L, F) -> prediction (B, H F), and None as the state."""
        if state is not None:
            self.init_state(len(x_BLF))
        if x_BLF.shape[1] != self.inputs.length:
            raise ValueError(
                f"a linear model reads {self.inputs.length} steps, got {x_BLF.shape[1]}: give all examples this length."
            )
        x_BFL = jnp.swapaxes(masks.fill(x_BLF, mask_BL), 1, 2)
        y_BFH = Dense(
            self.outputs // self.inputs.features, kernel_init=nn.initializers.zeros, dtype=self.dtype, name="head"
        )(x_BFL)
        return jnp.swapaxes(y_BFH, 1, 2).reshape(len(x_BLF), self.outputs).astype(jnp.float32), None


Model = Linear
