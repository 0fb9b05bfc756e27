"""Recurrences over time: the classical cells with a fast backward pass, and `recur` for any other cell.

`remat` keeps one state per chunk of time instead of all gates, and runs each chunk a second time in the backward pass.
Layouts: x is (B, L, D); all gates are side by side in one kernel (D, G*N) and one recurrent kernel (N, G*N).
The state, and everything that depends on it, is float32 for every dtype of x.
"""

import jax
import jax.numpy as jnp

from seqjax import masks
from seqjax.ops import _cudnn
from seqjax.ops._generic import Variational, Zoneout, product, recur
from seqjax.ops._recurrence import Cell, Weights, run
from seqjax.ops._say import say

__all__ = ["Variational", "Zoneout", "elman", "gru", "lstm", "product", "recur"]


def _half(t):
    """tanh(z / 2) -> sigmoid(z)."""
    return 0.5 * t + 0.5


def _elman(kind: str) -> Cell:
    activation = {"tanh": jnp.tanh, "relu": jax.nn.relu}[kind]
    slope = {"tanh": lambda h: 1 - h * h, "relu": lambda h: (h > 0).astype(h.dtype)}[kind]

    def step(u, g_BN, state):
        return (activation(u[0] + g_BN),), ()

    def back(dstate, slope_BN):
        return (0.0,), dstate[0] * slope_BN, ()

    return Cell(
        scale=(1.0,),
        parts=1,
        step=step,
        rest=None,
        slopes=lambda kept, before, after: slope(after[0]),
        back=back,
        input=lambda dz, extra: dz,
    )


_ELMAN = {kind: _elman(kind) for kind in ("tanh", "relu")}


def _lstm_step(u, g_BM, state):
    a_BM = jnp.tanh(u[0] + g_BM)
    i_BN, f_BN, g_BN, o_BN = jnp.split(a_BM, 4, axis=-1)
    c_BN = _half(f_BN) * state[1] + _half(i_BN) * g_BN
    return (_half(o_BN) * jnp.tanh(c_BN), c_BN), a_BM


def _lstm_rest(a_TBM):
    i, f, g, _ = jnp.split(a_TBM, 4, axis=-1)
    return _half(f), _half(i), g


def _lstm_slopes(a_TBM, before, after):
    """Three slopes: dz from dc (for i, f, g) and from dh (for o); dc from dh; dc of the token before from dc."""
    i, f, g, o = jnp.split(a_TBM, 4, axis=-1)
    tanh_c = jnp.tanh(after[1])
    factor_TBM = jnp.concatenate([0.25 * g, 0.25 * before[1], _half(i), 0.25 * tanh_c], axis=-1)
    return factor_TBM * (1 - a_TBM * a_TBM), _half(o) * (1 - tanh_c * tanh_c), _half(f)


def _lstm_back(dstate, slopes):
    (dh_BN, dc_BN), (slope_BM, cell_BN, forget_BN) = dstate, slopes
    dc_BN = dc_BN + dh_BN * cell_BN
    dz_BM = jnp.concatenate([dc_BN, dc_BN, dc_BN, dh_BN], axis=-1) * slope_BM
    return (0.0, dc_BN * forget_BN), dz_BM, ()


_LSTM = Cell(
    scale=(0.5, 0.5, 1.0, 0.5),
    parts=1,
    step=_lstm_step,
    rest=_lstm_rest,
    slopes=_lstm_slopes,
    back=_lstm_back,
    input=lambda dz, extra: dz,
)


def _gru_step(u, g_BM, state):
    g_r_BN, g_z_BN, part_BN = jnp.split(g_BM, 3, axis=-1)
    r_BN, z_BN = _half(jnp.tanh(u[0] + g_r_BN)), _half(jnp.tanh(u[1] + g_z_BN))
    n_BN = jnp.tanh(u[2] + r_BN * part_BN)
    return (n_BN + z_BN * (state[0] - n_BN),), (r_BN, z_BN, n_BN, part_BN)


def _gru_slopes(kept, before, after):
    """Three slopes: dz from dh, for r, z and the recurrent part of n; dn from dh; dh of the token before from dh."""
    r, z, n, part = kept
    dn = (1 - z) * (1 - n * n)
    slope_TBM = jnp.concatenate([dn * part * r * (1 - r), (before[0] - n) * z * (1 - z), dn * r], axis=-1)
    return slope_TBM, dn, z


def _gru_back(dstate, slopes):
    (dh_BN,), (slope_BM, dn_BN, z_BN) = dstate, slopes
    return (dh_BN * z_BN,), jnp.concatenate([dh_BN] * 3, axis=-1) * slope_BM, dh_BN * dn_BN


_GRU = Cell(
    scale=(0.5, 0.5, 1.0),
    parts=3,
    step=_gru_step,
    rest=None,
    slopes=_gru_slopes,
    back=_gru_back,
    # The input reaches n directly, not through the reset gate.
    input=lambda dz, dn: jnp.concatenate([dz[..., : -dn.shape[-1]], dn], axis=-1),
)


def _over(cell, x_BLD, weights, state, initial, mask_BL, reset_BL, remat):
    h_BLN, state = run(cell, masks.fill(x_BLD, mask_BL), weights, state, initial, mask_BL, reset_BL, remat)
    return h_BLN.astype(x_BLD.dtype), state


def elman(x_BLD, kernel, recurrent, bias, h_BN, initial, mask_BL=None, reset_BL=None, remat=False, activation="tanh"):
    """h_t = f(x_t W + h_{t-1} U + b), f = tanh or relu. Returns y = h (B, L, N) and the last h."""
    weights = Weights(kernel, recurrent, bias, None)
    y_BLN, (h_BN,) = _over(_ELMAN[activation], x_BLD, weights, (h_BN,), (initial,), mask_BL, reset_BL, remat)
    return y_BLN, h_BN


def lstm(x_BLD, kernel, recurrent, bias, state, initial, mask_BL=None, reset_BL=None, remat=False, backend="auto"):
    """The LSTM with gates i, f, g, o, in this order in the kernels; state (h, c). Returns y = h and (h, c).

    `backend` "auto" takes cuDNN's LSTM if it computes exactly this call, else the scan.

    Raises:
      ValueError: backend="cudnn", but cuDNN cannot compute this call.
    """

    def by_scan(x_BLD, kernel, recurrent, bias, state):
        return _over(_LSTM, x_BLD, Weights(kernel, recurrent, bias, None), state, initial, mask_BL, reset_BL, remat)

    reason = "forced" if backend == "scan" else _cudnn.hindrance(x_BLD.dtype, reset_BL, remat)
    if reason is None and backend == "auto" and x_BLD.shape[1] == 1:
        reason = "one token needs no loop, and vmap cannot map cuDNN's LSTM over the hypotheses of a beam"
    if reason is None:
        say("LSTM", "cudnn", "float32 on a GPU; masks other than padding on the right use the scan")
        x_BLD = masks.fill(x_BLD, mask_BL)
        return _cudnn.lstm(x_BLD, kernel, recurrent, bias, state, mask_BL, by_scan)
    if backend == "cudnn":
        raise ValueError(f"backend='cudnn' cannot compute this LSTM: {reason}. Use 'auto' or 'scan'.")
    say("LSTM", "scan", reason if backend == "scan" else f"cudnn: {reason}")
    return by_scan(x_BLD, kernel, recurrent, bias, state)


def gru(x_BLD, kernel, recurrent, bias, bias_n, h_BN, initial, mask_BL=None, reset_BL=None, remat=False):
    """The GRU with gates r, z, n, in this order, the reset gate after the recurrent product. Returns y = h and h."""
    recurrent_bias = jnp.concatenate([jnp.zeros((2 * bias_n.shape[0],), bias_n.dtype), bias_n])
    weights = Weights(kernel, recurrent, bias, recurrent_bias)
    y_BLN, (h_BN,) = _over(_GRU, x_BLD, weights, (h_BN,), (initial,), mask_BL, reset_BL, remat)
    return y_BLN, h_BN
