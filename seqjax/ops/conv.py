"""Causal convolutions over the real tokens of each document, which continue from a cache of earlier inputs.

With R = (W - 1) * dilation, the cache holds the last R real inputs of the document, oldest first, and zeros before the
document's start. A masked token takes no place: a zero in its place would still move the tokens before it one tap
further back. So the real tokens of a row are brought together first, and the outputs are put back after.
"""

import jax
import jax.numpy as jnp

from seqjax import masks
from seqjax.ops import dense
from seqjax.ops._product import wide


def depthwise(x_BLD, filter_WD, state_BRD, mask_BL=None, reset_BL=None, dilation: int = 1):
    """One filter per feature. Returns y (B, L, D) in the dtype of x, and the cache after the last token.

        y_t = sum_j filter_{W-1-j} * x_{t - j dilation},   j = 0 ... W - 1

    filter[-1] multiplies the token itself. x_{t-1} is the real token before x_t in its document; tokens before the
    start of the document are zero. A masked token gives zero and does not change the cache, even if it is NaN; a reset
    (on a real token) starts a new document. The sum and the gradients are float32 for every dtype of x.

    Args:
      x_BLD: the input.
      filter_WD: the filters, float32.
      state_BRD: the cache, float32; zeros at the start.
      mask_BL, reset_BL: bool, as in a mixer.
      dilation: the distance between taps, in tokens.

    Raises:
      ValueError: the filter, the cache, a mask or the dilation does not fit.
    """
    if filter_WD.ndim != 2 or filter_WD.shape[1] != x_BLD.shape[-1]:
        raise ValueError(
            f"filter_WD is {list(filter_WD.shape)}, wanted [W, {x_BLD.shape[-1]}]: one filter per feature."
        )
    taps, put_back, end_BRD = _taps(x_BLD, len(filter_WD), state_BRD, mask_BL, reset_BL, dilation)
    y_BLD = sum(tap_BLD * tap_D[None, None] for tap_BLD, tap_D in zip(taps, filter_WD, strict=True))
    return put_back(y_BLD.astype(x_BLD.dtype)), end_BRD


def full(x_BLD, filter_WDE, state_BRD, mask_BL=None, reset_BL=None, dilation: int = 1):
    """Every output reads all features: y_t = sum_j x_{t - j dilation} filter_{W-1-j}, (B, L, E); else as `depthwise`.

    Operands of the product have the dtype of x.
    """
    if filter_WDE.ndim != 3 or filter_WDE.shape[1] != x_BLD.shape[-1]:
        raise ValueError(
            f"filter_WDE is {list(filter_WDE.shape)}, wanted [W, {x_BLD.shape[-1]}, E]: one matrix per tap."
        )
    taps, put_back, end_BRD = _taps(x_BLD, len(filter_WDE), state_BRD, mask_BL, reset_BL, dilation)
    near_BLM = jnp.concatenate(taps, axis=-1)
    y_BLE = dense.einsum("BLM,ME->BLE", near_BLM, filter_WDE.reshape(-1, filter_WDE.shape[-1]), x_BLD.dtype)
    return put_back(y_BLE), end_BRD


def _taps(x_BLD, W: int, state_BRD, mask_BL, reset_BL, dilation: int):
    """What each of W taps reads, oldest first, (B, L, D) each; a function of the outputs; and the new cache.

    The taps have the real tokens of a row first. The function puts outputs back where their tokens were.
    """
    (B, L, D), R = x_BLD.shape, (W - 1) * dilation
    if dilation < 1:
        raise ValueError(f"dilation={dilation}; it is the distance between taps in tokens: choose at least 1.")
    if state_BRD.shape != (B, R, D):
        raise ValueError(
            f"state_BRD is {list(state_BRD.shape)}, wanted [{B}, {R}, {D}], that is [B, (W - 1) * dilation, D]: start "
            "with zeros."
        )
    masks.check(reset_BL, (B, L), "reset_BL")
    x_BLD = masks.fill(x_BLD, mask_BL)
    put_back, last = lambda y_BLX: y_BLX, lambda a_BSX: a_BSX[:, L:]
    document_BL = masks.segments((B, L), mask_BL, reset_BL)
    newest_B1 = document_BL[:, -1:]
    if mask_BL is not None:
        together_BL = jnp.argsort(~mask_BL, axis=1, stable=True)
        apart_BL = jnp.argsort(together_BL, axis=1)
        x_BLD = _permute(x_BLD, together_BL, apart_BL)
        put_back = lambda y_BLX: masks.fill(_permute(y_BLX, apart_BL, together_BL), mask_BL)
        row = lambda a_SX, count: jax.lax.dynamic_slice_in_dim(a_SX, count, R)
        last = lambda a_BSX: jax.vmap(row)(a_BSX, jnp.sum(mask_BL, axis=1))
        document_BL = jnp.take_along_axis(document_BL, together_BL, axis=1)
    # The cast of the cache is exact, because x had this dtype when it was written. All that follows is float32.
    all_BSD = jnp.concatenate([state_BRD.astype(x_BLD.dtype), x_BLD], axis=1).astype(wide(x_BLD.dtype))
    tap = lambda a_BSX, j: a_BSX[:, j * dilation :][:, :L]
    taps, end_BRD = [tap(all_BSD, j) for j in range(W)], last(all_BSD)
    if reset_BL is not None:
        document_BS = jnp.pad(document_BL, [(0, 0), (R, 0)])  # the cache belongs to document 0
        taps = [masks.fill(a_BLD, tap(document_BS, j) == document_BL) for j, a_BLD in enumerate(taps)]
        end_BRD = masks.fill(end_BRD, last(document_BS) == newest_B1)
    return taps, put_back, end_BRD.astype(state_BRD.dtype)


@jax.custom_vjp
def _permute(x_BLX, from_BL, back_BL):
    """The tokens x[from], where `from` is a permutation and `back` its inverse: its gradient needs no scatter."""
    return jnp.take_along_axis(x_BLX, from_BL[..., None], axis=1, mode="promise_in_bounds")


_permute.defvjp(
    lambda x_BLX, from_BL, back_BL: (_permute(x_BLX, from_BL, back_BL), (from_BL, back_BL)),
    lambda places, g_BLX: (_permute(g_BLX, *reversed(places)), None, None),
)
