"""Convolutions of many features with filters of many taps, by fast Fourier transforms (FFT).

A transform cannot know where documents end. So with resets, a sequence is halved again and again: at each middle, at
most one document goes on, and the transform reads only this document of the left half, and writes only to this document
of the right half. Every pair of tokens of a document is parted by exactly one middle: O(L log^2 L) in place of
O(L log L).

If the rows of a batch are spread over devices, XLA gathers them for the transforms: the result is the same, but devices
exchange all rows.
"""

import jax.numpy as jnp

from seqjax import masks

BLOCK = 16  # tokens in a block that is not halved further


def causal(filter_WD, x_BSD, document_BS=None):
    """sum_j filter_{W-1-j} * x_{t-j} over the document of t, j = 0 ... W - 1: the last S - W + 1 outputs, (B, L, D)."""
    (W, D), (B, S, _) = filter_WD.shape, x_BSD.shape
    lags_WD = jnp.flip(filter_WD, axis=0).astype(x_BSD.dtype)
    if document_BS is None:
        return _product(lags_WD, x_BSD, S)[:, W - 1 :]  # what wraps around is in the outputs before these
    blocks = -(-S // BLOCK)
    N = BLOCK << (blocks - 1).bit_length()
    pad = lambda a, start: jnp.pad(a, [(0, 0)] * start + [(0, N - a.shape[start])] + [(0, 0)] * (a.ndim - start - 1))
    x_BND, document_BN, lags_ND = pad(x_BSD, 1), pad(document_BS, 1), pad(lags_WD[:N], 0)
    y_BND = _in_blocks(lags_ND, x_BND, document_BN)
    T = BLOCK
    while T < N:
        left_BCTD, _ = _halves(x_BND, T)
        left_BCT, right_BCT = _halves(document_BN, T)
        own_BC1 = right_BCT[:, :, :1]  # the document that goes on, if one does
        left_BCTD = jnp.where((left_BCT == own_BC1)[..., None], left_BCTD, 0)
        found_BCTD = _product(lags_ND[: 2 * T], left_BCTD, 2 * T)[:, :, T:]
        found_BCTD = jnp.where((right_BCT == own_BC1)[..., None], found_BCTD, 0)
        y_BND += jnp.stack([jnp.zeros_like(found_BCTD), found_BCTD], axis=2).reshape(B, N, D)
        T *= 2
    return y_BND[:, W - 1 : S]


def _product(lags_WD, x_XTD, n: int):
    """The circular convolution of length n along the axis before the last, as long as n."""
    transform = lambda a: jnp.fft.rfft(jnp.swapaxes(a, -1, -2), n)  # transforms of the last axis are faster
    lags_DF = transform(lags_WD)
    y_XDT = jnp.fft.irfft(transform(x_XTD) * lags_DF.reshape(*(1,) * (x_XTD.ndim - 2), *lags_DF.shape), n)
    return jnp.swapaxes(y_XDT, -1, -2)


def _halves(a_BNX, T: int):
    """(B, N, ...) -> the left and the right halves of blocks of 2 T tokens, (B, N / 2 T, T, ...) each."""
    a_BC2TX = a_BNX.reshape(a_BNX.shape[0], -1, 2, T, *a_BNX.shape[2:])
    return a_BC2TX[:, :, 0], a_BC2TX[:, :, 1]


def _in_blocks(lags_ND, x_BND, document_BN):
    """What the tokens of a block get from its own tokens, tap by tap."""
    (B, N, D), T = x_BND.shape, BLOCK
    x_CTD, document_CT = x_BND.reshape(-1, T, D), document_BN.reshape(-1, T)
    y_CTD = x_CTD * lags_ND[0][None, None]
    for j in range(1, T):
        earlier_CTD = masks.fill(x_CTD[:, :-j], document_CT[:, :-j] == document_CT[:, j:])
        y_CTD += jnp.pad(earlier_CTD * lags_ND[j][None, None], [(0, 0), (j, 0), (0, 0)])
    return y_CTD.reshape(B, N, D)
