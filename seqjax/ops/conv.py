"""Causal convolutions over the real tokens of each document, which continue from a cache of earlier inputs.

With R = (W - 1) * dilation, the cache holds the last R real inputs of the document, oldest first, and zeros before the
document's start. A masked token takes no place: a zero in its place would still move the tokens before it one tap
further back. So the real tokens of a row are brought together first, and the outputs are put back after. On several
devices a chunk hands on its last R inputs, and no device reads more of the others.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp

from seqjax import masks
from seqjax.ops import _long_conv, dense, ring
from seqjax.ops._product import wide

# From here on, transforms are faster than taps. Milliseconds forward, and forward and backward; 128 features, 4,096
# tokens, one CPU core, medians of 6:           64 taps            128 taps           2,048 taps
#   transforms; with resets                      9, 19; 38, 103     6, 12; 40, 102     18, 36; 40, 104
#   tap by tap; with resets                      2, 25; 2, 29       47, 176; 49, 183
LONG = 64
PIECE = 128  # rows times taps times tokens that the gradient of a filter adds up at a time: a cache holds their sums


def depthwise(x_BLD, filter_WD, state_BRD, mask_BL=None, reset_BL=None, dilation: int = 1):
    """One filter per feature. Returns y (B, L, D) in the dtype of x, and the cache after the last token.

        y_t = sum_j filter_{W-1-j} * x_{t - j dilation},   j = 0 ... W - 1

    filter[-1] multiplies the token itself. x_{t-1} is the real token before x_t in its document; tokens before the
    start of the document are zero. A masked token gives zero and does not change the cache, even if it is NaN; a reset
    (on a real token) starts a new document. The sum and the gradient of the filter are float32 for every dtype of x. If
    the mesh splits sequences (`seqjax.ops.ring`), each device hands its last R inputs to the others.

    A filter of more than 64 taps without dilation is applied to more than 64 tokens by fast Fourier transforms, between
    real tokens of one document only (`seqjax.ops._long_conv`). Later tokens then change earlier outputs by a rounding
    error, and one that is not finite spoils its whole row.

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
    product = partial(_by_matrix, filter_WDE, x_BLD.dtype, 1, ahead=ahead)
    return _chunk(product, x_BLD, nothing_BRD, mask_BL, reset_BL, ahead)[0]


def _by_feature(filter_WD, dtype, dilation, all_BSD, document_BS):
    W, L = len(filter_WD), all_BSD.shape[1] - (len(filter_WD) - 1) * dilation
    if min(W, L) > LONG and dilation == 1:
        return _long_conv.causal(filter_WD, all_BSD, document_BS).astype(dtype)
    if W > LONG and L == 1:
        own_BSD = all_BSD if document_BS is None else masks.fill(all_BSD, document_BS == document_BS[:, -1:])
        return jnp.sum(own_BSD[:, ::dilation] * filter_WD[None], axis=1, keepdims=True).astype(dtype)
    return _by_taps(dilation, filter_WD, all_BSD, document_BS).astype(dtype)


def _weighted(dilation: int, filter_WD, all_BSD, document_BS):
    taps = _taps(len(filter_WD), dilation, all_BSD, document_BS)
    return sum(tap_BLD * tap_D[None, None] for tap_BLD, tap_D in zip(taps, filter_WD, strict=True))


def _weighted_back(dilation, arguments, g_BLD):
    filter_WD, all_BSD, document_BS = arguments
    _, to_x = jax.vjp(lambda all_BSD: _weighted(dilation, filter_WD, all_BSD, document_BS), all_BSD)
    return _of_filter(len(filter_WD), dilation, all_BSD, document_BS, g_BLD), *to_x(g_BLD), None


_by_taps = jax.custom_vjp(_weighted, nondiff_argnums=(0,))
_by_taps.defvjp(lambda dilation, *arguments: (_weighted(dilation, *arguments), arguments), _weighted_back)


def _of_filter(W: int, dilation: int, all_BSD, document_BS, g_BLD):
    """The gradient of the filter: each tap times g, summed over rows and tokens, (W, D).

    On a CPU, XLA adds up the product with a shifted slice one number at a time: 26 ms per tap for a row of 4,096 tokens
    with 512 features. So a few tokens of all rows at a time are added to W arrays, 0.2 ms per tap, and a product adds
    up the rest. Rows stay apart until then: they may be spread over devices.
    """

    def at_once(all_BSD, document_BS, g_BLD):
        taps = _taps(W, dilation, all_BSD, document_BS)
        return jnp.stack([jnp.sum(tap_BLD * g_BLD, axis=(0, 1)) for tap_BLD in taps])

    def in_pieces(all_BSD, document_BS, g_BLD):
        (B, L, D), R = g_BLD.shape, (W - 1) * dilation
        T = min(L, max(1, PIECE // (W * B)))
        count = math.ceil(L / T)
        long = lambda tree: jax.tree.map(
            lambda a: jnp.pad(a, [(0, 0), (0, count * T - L)] + [(0, 0)] * (a.ndim - 2)), tree
        )
        cut = lambda tree, i, n: jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, i * T, n, axis=1), tree)
        near, g_BLD = long((all_BSD, document_BS)), long(g_BLD)

        def add(i, sums):
            g_BTD, taps = cut(g_BLD, i, T), _taps(W, dilation, *cut(near, i, T + R))
            return tuple(sum_BTD + tap_BTD * g_BTD for sum_BTD, tap_BTD in zip(sums, taps, strict=True))

        sums = jax.lax.fori_loop(0, count, add, (jnp.zeros((B, T, D), g_BLD.dtype),) * W)
        ones_BT, sums_BTM = jnp.ones((B, T), g_BLD.dtype), jnp.concatenate(sums, axis=-1)
        return jnp.einsum("BT,BTM->M", ones_BT, sums_BTM, precision="highest").reshape(W, D)

    return jax.lax.platform_dependent(all_BSD, document_BS, g_BLD, cpu=in_pieces, default=at_once)


def _by_matrix(filter_WDE, dtype, dilation, all_BSD, document_BS, ahead: int = 0):
    near_BLM = jnp.concatenate(_taps(len(filter_WDE), dilation, all_BSD, document_BS, ahead), axis=-1)
    return dense.einsum("BLM,ME->BLE", near_BLM, filter_WDE.reshape(-1, filter_WDE.shape[-1]), dtype)


def _taps(W: int, dilation: int, all_BSD, document_BS, ahead: int = 0):
    """What each of W taps reads, oldest first, (B, L, D) each; the last `ahead` of them look at later tokens."""
    L = all_BSD.shape[1] - (W - 1) * dilation
    tap = lambda a_BSX, j: a_BSX[:, j * dilation :][:, :L]
    taps = [tap(all_BSD, j) for j in range(W)]
    if document_BS is None:
        return taps
    document_BL = tap(document_BS, W - 1 - ahead)
    return [masks.fill(a_BLD, tap(document_BS, j) == document_BL) for j, a_BLD in enumerate(taps)]


def _check_matrices(filter_WDE, x_BLD) -> None:
    if filter_WDE.ndim != 3 or filter_WDE.shape[1] != x_BLD.shape[-1]:
        raise ValueError(
            f"filter_WDE is {list(filter_WDE.shape)}, wanted [W, {x_BLD.shape[-1]}, E]: one matrix per tap."
        )


def _run(product, x_BLD, filter_WX, state_BRD, mask_BL, reset_BL, dilation):
    """A causal convolution, in which `product` multiplies what the taps read by the filter: -> y, cache."""
    (B, L, D), R, dtype = x_BLD.shape, (len(filter_WX) - 1) * dilation, x_BLD.dtype
    if dilation < 1:
        raise ValueError(f"dilation={dilation}; it is the distance between taps in tokens: choose at least 1.")
    if state_BRD.shape != (B, R, D):
        raise ValueError(
            f"state_BRD is {list(state_BRD.shape)}, wanted [{B}, {R}, {D}], that is [B, (W - 1) * dilation, D]: start "
            "with zeros."
        )
    masks.check(reset_BL, (B, L), "reset_BL")
    if ring.devices(L) == 1:
        return _chunk(partial(product, filter_WX, dtype, dilation), x_BLD, state_BRD, mask_BL, reset_BL)

    def ends(x_BTD, mask_BT, reset_BT):
        """By how many places a chunk moves the cache, and what it puts at the free places."""
        B, T, D = x_BTD.shape
        nothing_BRD, document_BT = jnp.zeros((B, R, D), state_BRD.dtype), masks.segments((B, T), mask_BT, reset_BT)
        _, tail_BRD = _chunk(lambda all_BSD, _: all_BSD[:, R:], x_BTD, nothing_BRD, mask_BT, reset_BT)
        count_B = jnp.full((B,), T) if mask_BT is None else jnp.sum(mask_BT, axis=1)
        moved_B = jnp.where(document_BT[:, -1] > 0, R, jnp.minimum(count_B, R))
        return moved_B[:, None], tail_BRD[:, None]

    def read(x_BTD, mask_BT, reset_BT, before_B1RD, filter_WX):
        by_filter = partial(product, filter_WX, dtype, dilation)
        return _chunk(by_filter, x_BTD, before_B1RD[:, 0], mask_BT, reset_BT)[0]

    before_BCRD, end_BRD = ring.between(*ring.by_chunk(ends, x_BLD, mask_BL, reset_BL), state_BRD, move=_moved)
    return ring.by_chunk(read, x_BLD, mask_BL, reset_BL, before_BCRD, whole=(filter_WX,)), end_BRD


def _moved(places_B, state_BRD):
    """The cache after so many further inputs, with zeros in their places."""
    return _window(jnp.pad(state_BRD, [(0, 0), (0, state_BRD.shape[1]), (0, 0)]), places_B, state_BRD.shape[1])


def _window(a_BSX, start_B, R: int):
    """R places of each row, from its own start on."""
    return jax.vmap(lambda a_SX, start: jax.lax.dynamic_slice_in_dim(a_SX, start, R))(a_BSX, start_B)


def _chunk(product, x_BLD, state_BRD, mask_BL, reset_BL, ahead: int = 0):
    """The outputs of one device, and the cache after the last token.

    `product` makes the outputs of the cache, the real tokens and `ahead` zeros, and of their documents (None: one).
    """
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
    document_BS, end_BRD = None, last(all_BSD)
    if reset_BL is not None:
        document_BS = jnp.pad(document_BL, [(0, 0), (R, ahead)])  # the cache belongs to document 0
        end_BRD = masks.fill(end_BRD, last(document_BS) == newest_B1)
    return put_back(product(all_BSD, document_BS)), end_BRD.astype(state_BRD.dtype)


@jax.custom_vjp
def _permute(x_BLX, from_BL, back_BL):
    """The tokens x[from], where `from` is a permutation and `back` its inverse: its gradient needs no scatter."""
    return jnp.take_along_axis(x_BLX, from_BL[..., None], axis=1, mode="promise_in_bounds")


_permute.defvjp(
    lambda x_BLX, from_BL, back_BL: (_permute(x_BLX, from_BL, back_BL), (from_BL, back_BL)),
    lambda places, g_BLX: (_permute(g_BLX, *reversed(places)), None, None),
)
