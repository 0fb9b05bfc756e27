"""Recurrences over time: one masked, resettable scan, and the classical cells on it.

Layouts: x is (B, L, D), gates lie side by side in one kernel (D, G*N) and one recurrent kernel (N, G*N).
The state and everything that depends on it is float32, whatever the dtype of x.
"""

import jax
import jax.numpy as jnp

from seqjax import masks


def scan(cell, state, inputs_BLX, initial, mask_BL=None, reset_BL=None, unroll: int = 1):
    """Runs `cell(state, input) -> (state, output)` over time.

    Args:
      state: pytree of (B, ...), the state before the first token.
      inputs_BLX: pytree of (B, L, ...), one slice per token.
      initial: pytree like `state`: what a reset returns to.
      mask_BL: a masked token leaves the state alone and outputs zero.
      reset_BL: a reset (on a real token) puts `initial` in the place of the state before that token.

    Returns:
      Outputs (B, L, ...) and the state after the last token.
    """
    time_major = lambda tree: jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), tree)

    def choose(flag_B, yes, no):
        pick = lambda y, n: jnp.where(flag_B.reshape(flag_B.shape + (1,) * (y.ndim - 1)), y, n)
        return jax.tree.map(pick, yes, no)

    def step(before, slices):
        x, mask_B, reset_B = slices
        start = before if reset_B is None else choose(reset_B, initial, before)
        after, y = cell(start, x)
        if mask_B is not None:
            after = choose(mask_B, after, before)
            y = choose(mask_B, y, jax.tree.map(jnp.zeros_like, y))
        return after, y

    state, y = jax.lax.scan(step, state, time_major((inputs_BLX, mask_BL, reset_BL)), unroll=unroll)
    return time_major(y), state


def project(x_BLD, kernel_DN, bias_N=None):
    """x W + b in the dtype of x, handed on in float32: (B, L, D) -> (B, L, N)."""
    y_BLN = jnp.einsum("BLD,DN->BLN", x_BLD, kernel_DN.astype(x_BLD.dtype), preferred_element_type=jnp.float32)
    return y_BLN if bias_N is None else y_BLN + bias_N


def _recur(h_BN, kernel_NM, dtype):
    """h U with operands in the dtype of the input and a float32 result."""
    return jnp.dot(h_BN.astype(dtype), kernel_NM.astype(dtype), preferred_element_type=jnp.float32)


def _run(cell, x_BLD, inputs, state, initial, mask_BL, reset_BL):
    y_BLN, state = scan(cell, state, inputs, initial, mask_BL, reset_BL)
    return y_BLN.astype(x_BLD.dtype), state


def elman(x_BLD, kernel, recurrent, bias, h_BN, initial, mask_BL=None, reset_BL=None, activation=jnp.tanh):
    """h_t = f(x_t W + h_{t-1} U + b). Returns y = h (B, L, N) and the last h."""
    x_BLD = masks.fill(x_BLD, mask_BL)

    def cell(h_BN, u_BN):
        h_BN = activation(u_BN + _recur(h_BN, recurrent, x_BLD.dtype))
        return h_BN, h_BN

    return _run(cell, x_BLD, project(x_BLD, kernel, bias), h_BN, initial, mask_BL, reset_BL)


def lstm(x_BLD, kernel, recurrent, bias, state, initial, mask_BL=None, reset_BL=None):
    """The LSTM with gates i, f, g, o, in this order in the kernels; state (h, c). Returns y = h and (h, c)."""
    x_BLD = masks.fill(x_BLD, mask_BL)

    def cell(state, u_BM):
        h_BN, c_BN = state
        i_BN, f_BN, g_BN, o_BN = jnp.split(u_BM + _recur(h_BN, recurrent, x_BLD.dtype), 4, axis=-1)
        c_BN = jax.nn.sigmoid(f_BN) * c_BN + jax.nn.sigmoid(i_BN) * jnp.tanh(g_BN)
        h_BN = jax.nn.sigmoid(o_BN) * jnp.tanh(c_BN)
        return (h_BN, c_BN), h_BN

    return _run(cell, x_BLD, project(x_BLD, kernel, bias), state, initial, mask_BL, reset_BL)


def gru(x_BLD, kernel, recurrent, bias, bias_n, h_BN, initial, mask_BL=None, reset_BL=None):
    """The GRU with gates r, z, n, in this order, the reset gate after the recurrent product. Returns y = h and h."""
    x_BLD = masks.fill(x_BLD, mask_BL)
    N = h_BN.shape[-1]

    def cell(h_BN, u_BM):
        g_BM = _recur(h_BN, recurrent, x_BLD.dtype)
        r_BN, z_BN = jnp.split(jax.nn.sigmoid(u_BM[:, : 2 * N] + g_BM[:, : 2 * N]), 2, axis=-1)
        n_BN = jnp.tanh(u_BM[:, 2 * N :] + r_BN * (g_BM[:, 2 * N :] + bias_n))
        h_BN = n_BN + z_BN * (h_BN - n_BN)
        return h_BN, h_BN

    return _run(cell, x_BLD, project(x_BLD, kernel, bias), h_BN, initial, mask_BL, reset_BL)
