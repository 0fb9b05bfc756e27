"""Causal convolutions over the real tokens of each document, which continue from a cache of earlier inputs.

With R = (W - 1) * dilation, the cache holds the last R real inputs of the document, oldest first, and zeros before the
document's start. A masked token takes no place: a zero in its place would still move the tokens before it one tap
further back. So the real tokens of a row are brought together first, and the outputs are put back after. On several
devices a chunk hands on its last R inputs, and no device reads more of the others.
"""

from functools import partial

import jax
import jax.numpy as jnp

from seqjax import masks
from seqjax.ops import dense, ring
from seqjax.ops._product import wide


def depthwise(x_BLD, filter_WD, state_BRD, mask_BL=None, reset_BL=None, dilation: int = 1):
    """One filter per feature. Returns y (B, L, D) in the dtype of x, and the cache after the last token.

        y_t = sum_j filter_{W-1-j} * x_{t - j dilation},   j = 0 ... W - 1

    filter[-1] multiplies the token itself. x_{t-1} is the real token before x_t in its document; tokens before the
    start of the document are zero. A masked token gives zero and does not change the cache, even if it is NaN; a reset
    (on a real token) starts a new document. The sum and the gradient of the filter are float32 for every dtype of x. If
    the mesh splits sequences (`seqjax.ops.ring`), each device hands its last R inputs to the others.

    Args:
      x_BLD: the input.
      filter_WD: the filters, float32.
      state_BRD: the cache, float32; zeros at the start.
      mask_BL, reset_BL: bool, as in a mixer.
      dilation: the distance between taps, in tokens.

    Raises:
      ValueError: the filter, the cache, a mask or the dilation does not fit, or devices cannot share the length.
    """
    if filter_WD.ndim != 2 or filter_WD.shape[1] != x_BLD.shape[-1]:
        raise ValueError(
            f"filter_WD is {list(filter_WD.shape)}, wanted [W, {x_BLD.shape[-1]}]: one filter per feature."
        )
    return _run(_by_feature, x_BLD, filter_WD, state_BRD, mask_BL, reset_BL, dilation)


def full(x_BLD, filter_WDE, state_BRD, mask_BL=None, reset_BL=None, dilation: int = 1):
    """Every output reads all features: y_t = sum_j x_{t - j dilation} filter_{W-1-j}, (B, L, E); else as `depthwise`.

    Operands of the product have the dtype of x.
    """
    _check_matrices(filter_WDE, x_BLD)
    return _run(_by_matrix, x_BLD, filter_WDE, state_BRD, mask_BL, reset_BL, dilation)


def around(x_BLD, filter_WDE, mask_BL=None, reset_BL=None):
    """As `full`, but not causal: the window of a token is centred on it. Returns y (B, L, E).

        y_t = sum_j x_{t + j - W // 2} filter_j,   j = 0 ... W - 1

    Tokens before the start and after the end of the document are zero.
    """
    _check_matrices(filter_WDE, x_BLD)
    (B, L, D), before = x_BLD.shape, len(filter_WDE) // 2
    masks.check(reset_BL, (B, L), "reset_BL")
    nothing_BRD = jnp.zeros((B, before, D), x_BLD.dtype)
    ahead = len(filter_WDE) - 1 - before
    read = partial(_by_matrix, filter_WDE, x_BLD.dtype)
    return _chunk(read, len(filter_WDE), 1, x_BLD, nothing_BRD, mask_BL, reset_BL, ahead)[0]


def _by_feature(filter_WD, dtype, taps):
    y_BLD = sum(tap_BLD * tap_D[None, None] for tap_BLD, tap_D in zip(taps, filter_WD, strict=True))
    return y_BLD.astype(dtype)


def _by_matrix(filter_WDE, dtype, taps):
    near_BLM = jnp.concatenate(taps, axis=-1)
    return dense.einsum("BLM,ME->BLE", near_BLM, filter_WDE.reshape(-1, filter_WDE.shape[-1]), dtype)


def _check_matrices(filter_WDE, x_BLD) -> None:
    if filter_WDE.ndim != 3 or filter_WDE.shape[1] != x_BLD.shape[-1]:
        raise ValueError(
            f"filter_WDE is {list(filter_WDE.shape)}, wanted [W, {x_BLD.shape[-1]}, E]: one matrix per tap."
        )


def _run(product, x_BLD, filter_WX, state_BRD, mask_BL, reset_BL, dilation):
    """A causal convolution, in which `product` multiplies what the taps read by the filter: -> y, cache."""
    (B, L, D), W, dtype = x_BLD.shape, len(filter_WX), x_BLD.dtype
    R = (W - 1) * dilation
    if dilation < 1:
        raise ValueError(f"dilation={dilation}; it is the distance between taps in tokens: choose at least 1.")
    if state_BRD.shape != (B, R, D):
        raise ValueError(
            f"state_BRD is {list(state_BRD.shape)}, wanted [{B}, {R}, {D}], that is [B, (W - 1) * dilation, D]: start "
            "with zeros."
        )
    masks.check(reset_BL, (B, L), "reset_BL")
    if ring.devices(L) == 1:
        return _chunk(partial(product, filter_WX, dtype), W, dilation, x_BLD, state_BRD, mask_BL, reset_BL)

    def ends(x_BTD, mask_BT, reset_BT):
        """By how many places a chunk moves the cache, and what it puts at the free places."""
        B, T, D = x_BTD.shape
        nothing_BRD, document_BT = jnp.zeros((B, R, D), state_BRD.dtype), masks.segments((B, T), mask_BT, reset_BT)
        _, tail_BRD = _chunk(lambda taps: taps[-1], W, dilation, x_BTD, nothing_BRD, mask_BT, reset_BT)
        count_B = jnp.full((B,), T) if mask_BT is None else jnp.sum(mask_BT, axis=1)
        moved_B = jnp.where(document_BT[:, -1] > 0, R, jnp.minimum(count_B, R))
        return moved_B[:, None], tail_BRD[:, None]

    def read(x_BTD, mask_BT, reset_BT, before_B1RD, filter_WX):
        product_of = partial(product, filter_WX, dtype)
        return _chunk(product_of, W, dilation, x_BTD, before_B1RD[:, 0], mask_BT, reset_BT)[0]

    before_BCRD, end_BRD = ring.between(*ring.by_chunk(ends, x_BLD, mask_BL, reset_BL), state_BRD, move=_moved)
    return ring.by_chunk(read, x_BLD, mask_BL, reset_BL, before_BCRD, whole=(filter_WX,)), end_BRD


def _moved(places_B, state_BRD):
    """The cache after so many further inputs, with zeros in their places."""
    return _window(jnp.pad(state_BRD, [(0, 0), (0, state_BRD.shape[1]), (0, 0)]), places_B, state_BRD.shape[1])


def _window(a_BSX, start_B, R: int):
    """R places of each row, from its own start on."""
    return jax.vmap(lambda a_SX, start: jax.lax.dynamic_slice_in_dim(a_SX, start, R))(a_BSX, start_B)


def _chunk(product, W, dilation, x_BLD, state_BRD, mask_BL, reset_BL, ahead: int = 0):
    """`product` of what W taps read, and the cache after the last token. The last `ahead` taps read later tokens."""
    (B, L, _), R, dtype = x_BLD.shape, state_BRD.shape[1], x_BLD.dtype
    x_BLD = masks.fill(x_BLD, mask_BL)
    document_BL = masks.segments((B, L), mask_BL, reset_BL)
    newest_B1 = document_BL[:, -1:]
    put_back, last = lambda y_BLX: y_BLX, lambda a_BSX: a_BSX[:, L : L + R]
    if mask_BL is not None:
        together_BL = jnp.argsort(~mask_BL, axis=1, stable=True)
        apart_BL = jnp.argsort(together_BL, axis=1)
        x_BLD = _permute(x_BLD, together_BL, apart_BL)
        document_BL = jnp.take_along_axis(document_BL, together_BL, axis=1)
        put_back = lambda y_BLX: masks.fill(_permute(y_BLX, apart_BL, together_BL), mask_BL)
        last = lambda a_BSX: _window(a_BSX, jnp.sum(mask_BL, axis=1), R)
    # The cast of the cache is exact, because x had this dtype when it was written. All that follows is float32.
    all_BSD = jnp.concatenate([state_BRD.astype(dtype), x_BLD], axis=1).astype(wide(dtype))
    all_BSD = jnp.pad(all_BSD, [(0, 0), (0, ahead), (0, 0)])
    tap = lambda a_BSX, j: a_BSX[:, j * dilation :][:, :L]
    taps, end_BRD = [tap(all_BSD, j) for j in range(W)], last(all_BSD)
    if reset_BL is not None:
        document_BS = jnp.pad(document_BL, [(0, 0), (R, ahead)])  # the cache belongs to document 0
        taps = [masks.fill(a_BLD, tap(document_BS, j) == document_BL) for j, a_BLD in enumerate(taps)]
        end_BRD = masks.fill(end_BRD, last(document_BS) == newest_B1)
    return put_back(product(taps)), end_BRD.astype(state_BRD.dtype)


@jax.custom_vjp
def _permute(x_BLX, from_BL, back_BL):
    """The tokens x[from], where `from` is a permutation and `back` its inverse: its gradient needs no scatter."""
    return jnp.take_along_axis(x_BLX, from_BL[..., None], axis=1, mode="promise_in_bounds")


_permute.defvjp(
    lambda x_BLX, from_BL, back_BL: (_permute(x_BLX, from_BL, back_BL), (from_BL, back_BL)),
    lambda places, g_BLX: (_permute(g_BLX, *reversed(places)), None, None),
)
