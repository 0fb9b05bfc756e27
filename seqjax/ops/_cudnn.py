"""The LSTM of NVIDIA's cuDNN, for calls in which it computes exactly what `scan.lstm` does."""

import functools

import jax
import jax.numpy as jnp

from seqjax import masks
from seqjax.ops import _nvidia

# Of `jax_default_matmul_precision`: TF32 or float32. JAX refuses 16 bits here, and takes names of algorithms as TF32.
PRECISIONS = (None, "high", "tensorfloat32", "bfloat16_3x", "highest", "float32")


def hindrance(dtype, reset_BL, remat: bool) -> str | None:
    """The reason why cuDNN cannot compute this call; None if it can."""
    if reason := _nvidia.hindrance():
        return reason
    if jnp.dtype(dtype) != jnp.float32:
        return f"it computes in float32 only, got {jnp.dtype(dtype)}"
    if (precision := jax.config.jax_default_matmul_precision) not in PRECISIONS:
        return f"its products are float32 or TF32, not jax_default_matmul_precision={precision!r}"
    if reset_BL is not None:
        return "it does not support reset_BL, a reset inside a sequence"
    if remat:
        return "it keeps all gates, and remat asks to keep one state per chunk"
    if jax.device_count() > 1 and not jax.sharding.get_abstract_mesh().manual_axes:
        return "jit cannot split it over devices; parallel.mode='pmap' runs it on each device"
    return None


def lstm(x_BLD, kernel, recurrent, bias, state, mask_BL, otherwise):
    """`scan.lstm` by cuDNN, in float32 and without resets: -> y (B, L, N) and (h, c).

    cuDNN takes lengths, not masks. Only at run time is it known whether the mask is padding on the right. If it is
    not, the scan `otherwise(x, kernel, recurrent, bias, state)` is called instead.
    """
    if mask_BL is None:
        length_B = jnp.full(x_BLD.shape[:1], x_BLD.shape[1], jnp.int32)
        return _padded(length_B, x_BLD, kernel, recurrent, bias, state)
    length_B = jnp.sum(mask_BL, axis=1, dtype=jnp.int32)
    padded = jnp.all(mask_BL == masks.from_lengths(length_B, mask_BL.shape[1]))
    return jax.lax.cond(padded, functools.partial(_padded, length_B), otherwise, x_BLD, kernel, recurrent, bias, state)


def _padded(length_B, x_BLD, kernel, recurrent, bias, state):
    from jax.experimental import rnn

    N = recurrent.shape[0]
    # cuDNN takes all weights in one vector: W and U with gates i, f, g, o in rows, then the bias of each.
    weights = jnp.concatenate([kernel.T.ravel(), recurrent.T.ravel(), bias, jnp.zeros_like(bias)])
    h_BN, c_BN = state
    # A row of length 0 runs one token whose results are thrown away.
    sizes = dict(input_size=x_BLD.shape[-1], hidden_size=N, num_layers=1, dropout=0.0, bidirectional=False)
    y_BLN, h_1BN, c_1BN = rnn.lstm(x_BLD, h_BN[None], c_BN[None], weights, jnp.maximum(length_B, 1), *sizes.values())
    some_B1 = (length_B > 0)[:, None]
    y_BLN = masks.fill(y_BLN, masks.from_lengths(length_B, x_BLD.shape[1]))
    return y_BLN, (jnp.where(some_B1, h_1BN[0], h_BN), jnp.where(some_B1, c_1BN[0], c_BN))
