"""The mLSTM's recurrence: a matrix state with an exponential input gate, which needs a running maximum beside it."""

import jax
import jax.numpy as jnp

from seqjax.ops import _documents as documents
from seqjax.ops import ring
from seqjax.ops._product import wide

CHUNK = 64  # the fastest of 32, 64 and 128 on a CPU
NOTHING = -1e30  # m of a state to which no token has written: e^m is 0, and unlike -inf it has differences
LEAST = 1e-18  # the least divisor: gradients need the square of its inverse, which must fit into float32


def run(q_BLHK, k_BLHK, v_BLHV, i_BLH, f_BLH, state, mask_BL=None, reset_BL=None, *, chunk: int | None = None):
    """y (B, L, H, V) of every token, zero where masked, and the last state; both at least float32.

        C_t = e^f C_{t-1} + e^i k v^T,   n_t = e^f n_{t-1} + e^i k
        y_t = C_t^T q / max(|n_t . q|, 1)

    C and n are stored divided by e^m, m_t = max(f + m_{t-1}, i), so that no exponential overflows:
    y = C^T q / max(|n . q|, e^-m). y does not depend on m, which gets no gradient. A masked token does not
    change the state; a reset (on a real token) sets the state before it to zero. Gates, sums and states
    are at least float32 for all dtypes of the arguments. The backward pass keeps one state per chunk. If the mesh
    splits sequences (`seqjax.ops.ring`), each device first sums what its own tokens write, and devices exchange only
    these sums, with their maxima and decays.

    Args:
      q_BLHK, k_BLHK, v_BLHV: queries, keys and values.
      i_BLH, f_BLH: logarithms of the input gate, and of the forget gate (at most 0), one number per head.
      state: C (B, H, K, V), n (B, H, K) and m (B, H); zeros at the start, as m = -inf would be NaN.
      mask_BL, reset_BL: bool, as in a mixer.
      chunk: tokens per chunk, at most; None: what is fast. It changes only the speed; 1 gives the recurrence above.

    Raises:
      ValueError: a mask has the wrong shape, the chunk is empty, or devices cannot share the length.

    Beck et al. 2024, "xLSTM: extended long short-term memory", arXiv:2405.04517.
    """
    dtype = wide(q_BLHK.dtype)
    C_BHKV, n_BHK, m_BH = jax.tree.map(lambda a: a.astype(dtype), state)
    # n is one more column of C, as if each v ended with 1.
    beside = lambda a, b: jnp.concatenate([a, b.astype(a.dtype)], axis=-1)
    tokens = q_BLHK, k_BLHK, beside(v_BLHV, jnp.ones_like(v_BLHV[..., :1])), i_BLH[..., None], f_BLH[..., None]
    state = beside(C_BHKV, n_BHK[..., None]), m_BH
    chunk = CHUNK if chunk is None else chunk
    (C_BHKV, m_BH), y_BLHV = documents.scan(_chunk, state, tokens, mask_BL, reset_BL, chunk, EFFECT)
    return y_BLHV, (C_BHKV[..., :-1], C_BHKV[..., -1], m_BH)


def _chunk(state, chunk):
    """One chunk of T tokens: -> the state after it, and y."""
    C_BHKV, m_BH = state
    q_BHTK, k_BHTK, v_BHTV, i_BHT1, f_BHT1 = (x.astype(C_BHKV.dtype) for x in documents.swap(chunk.tokens))
    turn = lambda x: jnp.swapaxes(x, 2, 3)
    flag = lambda flag_BT: flag_BT[:, None, :, None]
    F_BHT1 = jnp.cumsum(f_BHT1, axis=2)
    # Selected before exp: what lies ahead would be inf, and its gradient NaN.
    log_BHTT = jnp.where(chunk.visible()[:, None], F_BHT1 - turn(F_BHT1) + turn(i_BHT1), -jnp.inf)
    old_BHT1 = jnp.where(flag(chunk.old_BT), F_BHT1 + m_BH[:, :, None, None], -jnp.inf)
    # Never -inf: a token sees the old state, or the real token that started its document.
    top_BHT1 = jax.lax.stop_gradient(jnp.maximum(old_BHT1, jnp.max(log_BHTT, axis=3, keepdims=True)))
    since_BHT1 = jnp.exp(old_BHT1 - top_BHT1)
    weight_BHTT = (q_BHTK @ turn(k_BHTK)) * jnp.exp(log_BHTT - top_BHT1)
    both_BHTV = weight_BHTT @ v_BHTV + (q_BHTK * since_BHT1) @ C_BHKV
    # With m > 88 e^-m is 0, and so is n where a token does not exist: 0 / 0, whose gradient would be NaN.
    least_BHT1 = jnp.maximum(jnp.exp(-top_BHT1), LEAST)
    y_BHTV = both_BHTV[..., :-1] / jnp.maximum(jnp.abs(both_BHTV[..., -1:]), least_BHT1)

    end_BH11 = top_BHT1[:, :, -1:]
    log_BHT1 = jnp.where(flag(chunk.stays_BT), F_BHT1[:, :, -1:] - F_BHT1 + i_BHT1 - end_BH11, -jnp.inf)
    C_BHKV = since_BHT1[:, :, -1:] * C_BHKV + turn(k_BHTK * jnp.exp(log_BHT1)) @ v_BHTV
    return (C_BHKV, end_BH11[:, :, 0, 0]), documents.swap(y_BHTV)


def _nothing(state):
    """The effect of no tokens: the logarithm of what is left of the state before them; the state that they write."""
    C_BHKV, m_BH = state
    filled = lambda a_X, value: jnp.full(a_X.shape, value, a_X.dtype)  # full_like would ask for the mesh of a_X
    return filled(m_BH, 0), (filled(C_BHKV, 0), filled(m_BH, NOTHING))


def _effect(effect, chunk):
    """The effect of one chunk more; no y."""
    (F_BH, own), (*_, f_BTH1) = effect, chunk.tokens
    F_BH = F_BH + jnp.sum(f_BTH1[..., 0], axis=1)
    if chunk.fresh_BT is not None:
        F_BH = jnp.where(chunk.fresh_BT.any(axis=1)[:, None], -jnp.inf, F_BH)
    return (F_BH, _chunk(own, chunk)[0]), None


def _between(effects, state):
    """The states before the tokens of each device, and after the last."""
    (F_BnH, (own_BnHKV, own_BnH)), (C_BHKV, m_BH) = effects, state
    maxima = [m_BH]
    for F_BH, own_BH in zip(jnp.unstack(F_BnH, axis=1), jnp.unstack(own_BnH, axis=1), strict=True):
        maxima.append(jax.lax.stop_gradient(jnp.maximum(F_BH + maxima[-1], own_BH)))
    before_BnH, after_BnH = jnp.stack(maxima[:-1], axis=1), jnp.stack(maxima[1:], axis=1)
    matrix = lambda log_BnH: jnp.exp(log_BnH)[..., None, None]
    left, added = matrix(F_BnH + before_BnH - after_BnH), matrix(own_BnH - after_BnH) * own_BnHKV
    before_BnHKV, C_BHKV = ring.between(left, added, C_BHKV)
    return (before_BnHKV, before_BnH), (C_BHKV, maxima[-1])


EFFECT = documents.Effect(_nothing, _effect, _between)
