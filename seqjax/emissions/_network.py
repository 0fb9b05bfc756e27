"""Tables of logits that a network makes."""

import jax
from flax import linen as nn


class Network(nn.Module):
    """Logits (rows, columns) from an embedding of each row, for less parameters than a free table of many rows has.

        logits_kv = E_v . h_n(k) + b_v,   h_0(k) = s_k,   h_i(k) = norm(h_{i-1} + W_i2 relu(W_i1 h_{i-1} + b_i1) + b_i2)

    `width` is that of all vectors, `layers` is n; with none, this is a table of rank `width`.
    """

    rows: int
    columns: int
    width: int
    layers: int

    @property
    def size(self) -> int:
        """The number of its parameters."""
        D = self.width
        return D * self.rows + self.layers * (2 * D * (D + 1) + 2 * D) + (D + 1) * self.columns

    @nn.compact
    def __call__(self):
        h_KD = self.param("embedding", nn.initializers.normal(1.0), (self.rows, self.width))
        for i in range(self.layers):
            u_KD = jax.nn.relu(nn.Dense(self.width, name=f"up_{i}")(h_KD))
            h_KD = nn.LayerNorm(name=f"norm_{i}")(h_KD + nn.Dense(self.width, name=f"down_{i}")(u_KD))
        return nn.Dense(self.columns, name="out")(h_KD)
