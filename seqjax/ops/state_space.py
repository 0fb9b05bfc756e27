"""State spaces: the diagonal recurrence with N numbers for each of D channels, read in chunks of tokens.

The decays, inputs and states of all tokens, (B, L, N, D) each, would take N times the memory of x. So they are made for
one chunk of tokens at a time: the recurrence runs over the chunk and y is read from it. The backward pass makes them
again.

Channels are the last axis. XLA on a CPU adds up along another axis one number at a time, and sums over tokens or states
would take most of the time of a gradient. So these are products (`_einsum`), or loops that add whole slices (`_total`).
"""

from functools import partial

import jax
import jax.numpy as jnp

from seqjax.ops import _documents as documents
from seqjax.ops import linear
from seqjax.ops._product import wide

CHUNK, LEAST = 32, 8  # tokens of all rows in a chunk, and of each row at least: the states of a chunk fit into a cache


def selective(
    x_BLD,
    dt_BLD,
    rate_ND,
    b_BLN,
    c_BLN,
    h_BND,
    mask_BL=None,
    reset_BL=None,
    signed: bool = False,
    chunk: int | None = None,
):
    """A state space whose steps, inputs and outputs depend on the token. Returns y (B, L, D), float32, and the last h.

        a_t = exp(dt_t * rate)          (signed: 2 exp(dt_t * rate) - 1, between -1 and 1)
        h_t = a_t * h_{t-1} + b_t (dt_t * x_t)^T
        y_t = h_t^T c_t

    A masked token does not change the state and gets zeros, and passes no gradient. A reset (on a real token) sets the
    state before it to zero. All is computed in float32 at least. If the mesh splits sequences (`seqjax.ops.ring`), each
    device first finds what its own tokens do to a state, and devices exchange only that.

    Args:
      x_BLD: the input of each channel.
      dt_BLD: how much time passes with each token, not negative.
      rate_ND: negative.
      b_BLN, c_BLN: how each number of the state is written and read, the same for all channels.
      h_BND: the state; zeros at the start.
      mask_BL, reset_BL: bool, as in a mixer.
      signed: decays may be negative, so that a token can change the sign of the state.
      chunk: tokens per chunk, at most; it changes only the speed and the memory. None: 32 / B, but at least 8.

    Raises:
      ValueError: an array or a mask has the wrong shape, the chunk is empty, or devices cannot split the length.

    Gu and Dao 2023, "Mamba", arXiv:2312.00752; negative decays: Grazzi et al. 2024, arXiv:2411.12537.
    """
    (B, L, D), N = x_BLD.shape, len(rate_ND)
    by_token = dict(dt_BLD=(dt_BLD, (B, L, D)), b_BLN=(b_BLN, (B, L, N)), c_BLN=(c_BLN, (B, L, N)))
    _check(**by_token, rate_ND=(rate_ND, (N, D)), h_BND=(h_BND, (B, N, D)))

    def make(rate_BTND, x_BTD, dt_BTD, b_BTN, c_BTN):
        a_BTND = jnp.exp(_spread(dt_BTD, 2, rate_BTND.shape[2]) * rate_BTND)
        b_BTND = _einsum("BTN,BTD->BTND", b_BTN, dt_BTD * x_BTD)
        return 2 * a_BTND - 1 if signed else a_BTND, b_BTND

    def look(rate_BTND, h_BTND, x_BTD, dt_BTD, b_BTN, c_BTN):
        return _einsum("BTND,BTN->BTD", h_BTND, c_BTN)

    return _read(make, look, rate_ND, (x_BLD, dt_BLD, b_BLN, c_BLN), h_BND, mask_BL, reset_BL, chunk)


def fixed(x_BLD, a_ND, c_ND, h_BND, mask_BL=None, reset_BL=None, chunk: int | None = None):
    """A state space that is the same for all tokens, with complex a, c and h; else as `selective`.

    h_t = a * h_{t-1} + x_t,   y_t = Re(sum_n c_n * h_{t,n})
    """
    (B, _, D), N = x_BLD.shape, len(a_ND)
    _check(a_ND=(a_ND, (N, D)), c_ND=(c_ND, (N, D)), h_BND=(h_BND, (B, N, D)))

    def make(weights, x_BTD):
        a_BTND, _ = weights
        return a_BTND, _spread(x_BTD, 2, a_BTND.shape[2]).astype(a_BTND.dtype)

    def look(weights, h_BTND, x_BTD):
        _, c_BTND = weights
        return _total((c_BTND * h_BTND).real, 2)

    return _read(make, look, (a_ND, c_ND), (x_BLD,), h_BND, mask_BL, reset_BL, chunk)


def _check(**arrays) -> None:
    """Raises ValueError unless each array has the shape beside it."""
    for name, (array, wanted) in arrays.items():
        if array.shape != wanted:
            raise ValueError(f"{name} is {list(array.shape)}, wanted {list(wanted)}: make it fit x_BLD and the states.")


def _read(make, look, weights, tokens, h_BND, mask_BL, reset_BL, chunk):
    """y and the last h, where `make` gives a and b of a chunk of tokens, and `look` y of its states."""
    chunk = max(LEAST, CHUNK // len(h_BND)) if chunk is None else chunk
    # One copy per row: gradients are then summed over rows after the loop, not inside it.
    row = lambda w_ND: jnp.broadcast_to(w_ND[None], (len(h_BND), *w_ND.shape))

    def step(h_BND, chunk, rows, gain=1):
        own = jax.tree.map(partial(_spread, axis=1, size=chunk.length), rows)
        tokens = [a_BTX.astype(wide(a_BTX.dtype)) for a_BTX in chunk.tokens]
        a_BTND, b_BTND = make(own, *tokens)
        h_BTND, last_BND = linear.in_chunk(a_BTND, b_BTND * gain, h_BND, chunk.real_BT, chunk.fresh_BT)
        return last_BND, look(own, h_BTND, *tokens)

    def effect(carried, chunk, rows):
        decay_BND, gain_BND = carried
        return (step(decay_BND, chunk, rows, gain=0)[0], step(gain_BND, chunk, rows)[0]), None

    rows, effect = jax.tree.map(row, weights), documents.linear(effect)
    last_BND, y_BLD = documents.scan(step, h_BND, tokens, mask_BL, reset_BL, chunk, effect, rows=(rows,))
    return y_BLD, last_BND


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _spread(a_X, axis: int, size: int):
    """Copies of a along a new axis."""
    return jnp.broadcast_to(jnp.expand_dims(a_X, axis), (*a_X.shape[:axis], size, *a_X.shape[axis:]))


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _total(a_X, axis: int):
    """The sum over an axis other than the last."""

    def loop(a_X):
        add = lambda i, sum_X: sum_X + jax.lax.dynamic_index_in_dim(a_X, i, axis, keepdims=False)
        return jax.lax.fori_loop(0, a_X.shape[axis], add, jnp.zeros_like(jnp.take(a_X, 0, axis)))

    return jax.lax.platform_dependent(a_X, cpu=loop, default=partial(jnp.sum, axis=axis))


# Each is the gradient of the other.
_spread.defvjp(lambda a_X, *new: (_spread(a_X, *new), None), lambda axis, size, _, g_X: (_total(g_X, axis),))
_total.defvjp(lambda a_X, axis: (_total(a_X, axis), a_X.shape[axis]), lambda axis, n, g_X: (_spread(g_X, axis, n),))

_einsum = partial(jnp.einsum, precision="highest")  # the default of a GPU rounds factors to ten bits
