"""What the classical recurrent cells share."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax.mixers._base import Mixer


class Recurrent(Mixer):
    """A cell scanned over time. Subclasses set `gates`, `slots` and `run`.

    Kernels: input (D, G*N) by fan-in variance (LeCun), recurrent (N, G*N) orthogonal per gate, N = D = width.
    The state is float32.
    """

    gates = 1  # how many blocks of width N the kernels hold
    slots = 1  # how many vectors of width N the state holds

    def setup(self):
        D, G = self.width, self.gates
        self.kernel = self.param("kernel", nn.initializers.lecun_normal(), (D, G * D))
        self.recurrent = self.param("recurrent", _orthogonal_blocks(G), (D, G * D))
        self.bias = self.param("bias", self.init_bias, (G * D,))

    def init_bias(self, key, shape, dtype=jnp.float32):
        return jnp.zeros(shape, dtype)

    @nn.nowrap
    def init_state(self, batch: int):
        zeros = jnp.zeros((batch, self.width), jnp.float32)
        return zeros if self.slots == 1 else (zeros,) * self.slots

    def __call__(self, x_BLD, state=None, *, mask_BL=None, reset_BL=None, deterministic=True):
        self.check(x_BLD, state, mask_BL, reset_BL)
        initial = self.init_state(x_BLD.shape[0])
        start = initial if state is None else state
        y_BLD, end = self.run(x_BLD.astype(self.dtype), start, initial, mask_BL, reset_BL)
        return y_BLD.astype(x_BLD.dtype), None if state is None else end

    def run(self, x_BLD, state, initial, mask_BL, reset_BL):
        """Calls the op of this cell: -> y_BLD, state."""
        raise NotImplementedError


def _orthogonal_blocks(gates: int):
    """Each gate's N x N block orthogonal by itself, so that no gate starts by shrinking the state."""
    one = nn.initializers.orthogonal()

    def init(key, shape, dtype=jnp.float32):
        keys = jax.random.split(key, gates)
        return jnp.concatenate([one(k, (shape[0], shape[1] // gates), dtype) for k in keys], axis=1)

    return init
