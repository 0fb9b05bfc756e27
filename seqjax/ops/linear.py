"""The diagonal linear recurrence: channels do not mix; they are real or complex, with masks and resets.

The gradient of h_t = a_t h_{t-1} + b_t is the same recurrence run backwards, so its backward pass is written by hand:
it needs only a and h, and the gradients of weights that made a and b are summed outside the loop, in one product.
"""

from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from seqjax import masks
from seqjax.ops import ring

Method = Literal["auto", "scan", "associative"]


def diagonal(a_BLN, b_BLN, h_BN, mask_BL=None, reset_BL=None, method: Method = "auto"):
    """h_t = a_t * h_{t-1} + b_t. Returns h of every token (B, L, N), zero where masked, and the last h (B, N).

    A masked token does not change the state; a reset (on a real token) sets the state before it to zero. The dtype is
    at least float32 or complex64, for all dtypes of a, b and h. If the mesh splits sequences (`seqjax.ops.ring`), each
    device runs its chunk twice: the first run finds how the chunk maps a state, and devices exchange only that.

    method: "scan" computes one token after the other: least work, best on a CPU. "associative" joins neighbours in
      about 2 log2(L) rounds: more work, but parallel over time, for GPU and TPU. "auto" chooses by the platform that
      the program is compiled for, which may differ from the default platform.

    Raises:
      ValueError: the method is unknown, a mask has the wrong shape, or the length cannot be split over devices.

    Blelloch 1990, "Prefix sums and their applications"; Martin and Cundy 2018, arXiv:1709.04057.
    """
    if method not in get_args(Method):
        raise ValueError(f"method={method!r}; choose from {', '.join(get_args(Method))}.")
    wide = jnp.promote_types(jnp.result_type(a_BLN, b_BLN, h_BN), jnp.float32)
    a_BLN, b_BLN, h_BN = (x.astype(wide) for x in (a_BLN, b_BLN, h_BN))
    h_BLN, last_BN = in_chunk(a_BLN, b_BLN, h_BN, mask_BL, reset_BL, method, ring.devices(a_BLN.shape[1]) > 1)
    return masks.fill(h_BLN, mask_BL), last_BN


def in_chunk(a_BLX, b_BLX, h_BX, mask_BL, reset_BL, method: Method = "auto", cut: bool = False):
    """`diagonal` over the tokens of one device, for any axes X and one dtype; h may be anything where masked."""
    if reset_BL is not None:
        masks.check(reset_BL, a_BLX.shape[:2], "reset_BL")
        a_BLX = masks.fill(a_BLX, ~reset_BL)
    # After the reset, because a reset on a masked token does not count.
    return _run(method, cut, masks.fill(a_BLX, mask_BL, 1), masks.fill(b_BLX, mask_BL), h_BX)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _run(method, cut, a_BLN, b_BLN, h_BN):
    return _run_forward(method, cut, a_BLN, b_BLN, h_BN)[0]


def _run_forward(method, cut, a_BLN, b_BLN, h_BN):
    run, found = _by(method, _scan, _associative), h_BN
    if cut:
        found, last_BN = _found(run, a_BLN, b_BLN, h_BN)
        h_BLN = ring.by_chunk(lambda a, b, h: run(a, b, h[:, 0])[0], a_BLN, b_BLN, found)
    else:
        h_BLN, last_BN = run(a_BLN, b_BLN, h_BN)
    return (h_BLN, last_BN), (a_BLN, found, h_BLN)


def _run_backward(method, cut, residuals, cotangents):
    (a_BLN, found, h_BLN), (g_BLN, dlast_BN) = residuals, cotangents
    back = _by(method, _scan_back, _associative_back)
    before = lambda h_BCN, h_BLN: jnp.concatenate([h_BCN, h_BLN[:, :-1]], axis=1)
    if cut:
        later_BCN, dfirst_BN = _found(back, a_BLN, g_BLN, dlast_BN, reverse=True)
        d_BLN = ring.by_chunk(lambda a, g, d: back(a, g, d[:, 0])[0], a_BLN, g_BLN, later_BCN)
        before_BLN = ring.by_chunk(before, found, h_BLN)
    else:
        before_BLN = before(found[:, None], h_BLN)
        d_BLN, dfirst_BN = back(a_BLN, g_BLN, dlast_BN)
    return d_BLN * before_BLN, d_BLN, dfirst_BN


def _found(run, a_BLN, b_BLN, h_BN, reverse: bool = False):
    """The state before each chunk, one chunk per device, and the state after the last: (B, C, N) and (B, N)."""

    def ends(a_BTN, b_BTN):
        _, gain_BN = run(a_BTN, b_BTN, jnp.zeros_like(b_BTN[:, 0]))
        return jnp.prod(a_BTN, axis=1, keepdims=True), gain_BN[:, None]

    return ring.between(*ring.by_chunk(ends, a_BLN, b_BLN), h_BN, reverse)


_run.defvjp(_run_forward, _run_backward)


def _by(method, scan, associative):
    if method == "auto":
        return lambda *arrays: jax.lax.platform_dependent(*arrays, cpu=scan, default=associative)
    return scan if method == "scan" else associative


# The scans index the middle axis in place: moving it to the front for lax.scan is slower on a CPU.
_at = partial(jax.lax.dynamic_index_in_dim, axis=1, keepdims=False)
_put = partial(jax.lax.dynamic_update_index_in_dim, axis=1)


def _scan(a_BLN, b_BLN, h_BN):
    def step(t, carry):
        h_BN, h_BLN = carry
        h_BN = _at(a_BLN, t) * h_BN + _at(b_BLN, t)
        return h_BN, _put(h_BLN, h_BN, t)

    last_BN, h_BLN = jax.lax.fori_loop(0, b_BLN.shape[1], step, (h_BN, jnp.zeros_like(b_BLN)))
    return h_BLN, last_BN


def _scan_back(a_BLN, g_BLN, dlast_BN):
    """d_t = g_t + a_{t+1} d_{t+1}, from the last token to the first; also a_0 d_0."""
    L = g_BLN.shape[1]

    def step(i, carry):
        later_BN, d_BLN = carry
        t = L - 1 - i
        d_BN = _at(g_BLN, t) + later_BN
        return _at(a_BLN, t) * d_BN, _put(d_BLN, d_BN, t)

    dfirst_BN, d_BLN = jax.lax.fori_loop(0, L, step, (dlast_BN, jnp.zeros_like(g_BLN)))
    return d_BLN, dfirst_BN


def _join(earlier, later):
    """Joins two consecutive maps h -> a h + b into one."""
    (a, b), (c, d) = earlier, later
    return a * c, b * c + d


def _associative(a_BLN, b_BLN, h_BN):
    b_BLN = b_BLN.at[:, 0].add(a_BLN[:, 0] * h_BN)
    _, h_BLN = jax.lax.associative_scan(_join, (a_BLN, b_BLN), axis=1)
    return h_BLN, h_BLN[:, -1]


def _associative_back(a_BLN, g_BLN, dlast_BN):
    g_BLN = g_BLN.at[:, -1].add(dlast_BN)
    next_BLN = jnp.concatenate([a_BLN[:, 1:], jnp.ones_like(a_BLN[:, :1])], axis=1)
    _, d_BLN = jax.lax.associative_scan(_join, (next_BLN, g_BLN), axis=1, reverse=True)
    return d_BLN, a_BLN[:, 0] * d_BLN[:, 0]
