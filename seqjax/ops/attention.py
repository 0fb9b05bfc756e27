"""Attention on arrays: softmax attention by whatever computes it fastest and exactly, and all other kinds."""

from functools import partial
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from seqjax import masks
from seqjax.ops import _backends, scores
from seqjax.ops import weights as kinds
from seqjax.ops._backends import Backend
from seqjax.ops._blockwise import FLOOR
from seqjax.ops.positions import Relative

Weights = Literal["softmax", "sigmoid", "hard", "sparsemax", "entmax"]
FEW = 4


class Look(NamedTuple):
    """Who sees whom, and what scores become.

        s_ij = score_ij + bias_ij,   with a soft cap c: c tanh(s_ij / c)
        w_ij = exp(s_ij) / (sum_j exp(s_ij) + exp(sink))    over the keys j that query i may see, or another kind

    A query that may see nothing has weights of zero and passes no gradient.

    allowed_BLS: bool, True = may look, whatever else is said; (1, L, S) for all rows alike. Costs O(L S) memory.
    queries, keys: positions, documents and masks. Documents (segments) do not see each other.
    causal, window, dilation, prefix, blocks: which places see each other: `seqjax.masks.Pattern`.
    soft_cap: scores stay within +- soft_cap (Gemma Team 2024, arXiv:2408.00118).
    sinks_H: a logit per head that takes its share and gives nothing (OpenAI 2025, arXiv:2508.10925).
    bias_BHLS: added to the scores; (1, H, L, S) for all rows alike. Costs O(L S) memory.
    relative: a bias by distance, in memory linear in L: `seqjax.ops.positions.Relative`.
    weights: what makes weights of scores: a function of `seqjax.ops.weights`.
    """

    allowed_BLS: jax.Array | None = None
    queries: masks.Places = masks.Places()
    keys: masks.Places = masks.Places()
    causal: bool = False
    window: int | None = None
    dilation: int = 1
    prefix: int = 0
    blocks: masks.BlockPattern | None = None
    soft_cap: float | None = None
    sinks_H: jax.Array | None = None
    bias_BHLS: jax.Array | None = None
    relative: Relative = Relative()
    weights: Weights = "softmax"

    @property
    def pattern(self) -> masks.Pattern:
        """Which places see each other."""
        return masks.Pattern(self.causal, self.window, self.dilation, self.prefix, self.blocks)

    def allowed(self, L: int, S: int):
        """(1 or B, L, S)."""
        seen_BLS = masks.visible(self.queries, self.keys, L, S, self.pattern)
        return seen_BLS if self.allowed_BLS is None else seen_BLS & self.allowed_BLS

    def check(self, B: int, H: int, L: int, S: int) -> None:
        """Raises ValueError for options that do not go together, or do not fit scores (B, H, L, S)."""
        if min(1 if self.window is None else self.window, self.dilation) < 1:
            raise ValueError(f"window={self.window}, dilation={self.dilation}: both are at least 1.")
        if self.sinks_H is not None and self.sinks_H.shape != (H,):
            raise ValueError(f"sinks_H is {list(self.sinks_H.shape)}, wanted one per head, [{H}].")
        if self.weights not in get_args(Weights):
            raise ValueError(f"weights={self.weights!r}; choose from {', '.join(get_args(Weights))}.")
        if self.weights != "softmax" and self.sinks_H is not None:
            raise ValueError(f"sinks_H take their share of a softmax, weights={self.weights!r} is none: drop one.")
        allowed, (slope_H, table_HN) = self.allowed_BLS, self.relative
        if allowed is not None and (allowed.dtype != bool or allowed.shape not in ((1, L, S), (B, L, S))):
            raise ValueError(
                f"allowed_BLS is {allowed.dtype}{list(allowed.shape)}, wanted bool{[B, L, S]}, or {[1, L, S]} for all "
                "rows, with True = may look."
            )
        if slope_H is not None and slope_H.shape != (H,):
            raise ValueError(f"relative.slope_H is {list(slope_H.shape)}, wanted one per head, [{H}].")
        if table_HN is not None and (table_HN.shape[0] != H or not (self.causal or table_HN.shape[1] % 2)):
            raise ValueError(
                f"relative.table_HN is {list(table_HN.shape)}, wanted a row for each of {H} heads and, unless causal, "
                "as many distances ahead as back: an odd number."
            )


def attend(q_BLHK, k_BSGK, v_BSGK, allowed_BLS=None, *, scale: float | None = None, backend: Backend = "auto", **look):
    """softmax(scale q k^T) v over the keys that each query is allowed to see.

    Softmax is float32, products are of the dtype of q. G key heads serve H / G query heads each, in this order:
    multi-query attention at G = 1 (Shazeer 2019, arXiv:1911.02150), grouped-query (Ainslie et al. 2023,
    arXiv:2305.13245). Masked tokens are nowhere, were they NaN.

    In a mesh that cuts sequences (`seqjax.ops.ring`) as many keys as queries go round the devices in a ring, in blocks
    (Liu et al. 2023, arXiv:2310.01889); with another number of keys, a cache say, nothing is cut by hand.

    Args:
      q_BLHK, k_BSGK, v_BSGK: queries, keys and values.
      scale: None: 1 / sqrt(K).
      backend: "reference" holds all scores; "blockwise" those of a block, with memory linear in L, and skips blocks
        that nobody sees (on a CPU heads take turns where queries see many keys, and each row skips its own); "xla" and
        "cudnn" are `jax.nn.dot_product_attention`; "tokamax" are the kernels of the package of this name. "auto" takes
        the fastest that computes exactly this call.
      allowed_BLS, look: the fields of `Look`.

    Returns:
      (B, L, H, K) in the dtype of q.

    Raises:
      ValueError: shapes or options that do not fit, or a backend that cannot serve this call, or cannot be cut, with
        the reason.
    """
    look = Look(allowed_BLS, **look)
    (B, L, H, K), shape = q_BLHK.shape, k_BSGK.shape
    if shape != v_BSGK.shape or (shape[0], shape[3]) != (B, K):
        raise ValueError(f"k is {list(shape)} and v {list(v_BSGK.shape)}, wanted [{B}, S, G, {K}] like q.")
    if H % shape[2]:
        raise ValueError(f"{shape[2]} key heads do not divide {H} query heads.")
    look.check(B, H, L, shape[1])
    backend = _backends.choose(backend, q_BLHK, k_BSGK, look)
    q_BLHK = masks.fill(q_BLHK, _rows(look.queries.mask_BL, q_BLHK))
    k_BSGK, v_BSGK = (masks.fill(a, _rows(look.keys.mask_BL, a)) for a in (k_BSGK, v_BSGK))
    k_BSGK, v_BSGK = k_BSGK.astype(q_BLHK.dtype), v_BSGK.astype(q_BLHK.dtype)
    scale = K**-0.5 if scale is None else scale
    if backend in ("xla", "cudnn", "tokamax"):
        return _backends.library(backend, q_BLHK, k_BSGK, v_BSGK, scale, look)
    q_BLHK = q_BLHK * jnp.asarray(scale, q_BLHK.dtype)
    if backend in ("blockwise", "ring"):
        return _backends.by_blocks(backend, q_BLHK, k_BSGK, v_BSGK, look)
    return _mix(scores.dot(q_BLHK, k_BSGK), v_BSGK, look, q_BLHK.dtype)


def decode(q_BLHK, cached, new, *, scale: float | None = None, **look):
    """`attend` for a query or a few, to keys and values in a cache and to some that are not in it yet: (B, L, H, K).

    Nothing is copied, so that what nobody may see must be finite.

    Args:
      cached: k and v (B, G, K, W), places last: one query reads memory fastest that way.
      new: k and v (B, N, G, K).
      look: the fields of `Look`; its keys are the W cached ones and then the N new ones.

    Raises:
      ValueError: options that do not fit.
    """
    look, (B, L, H, K), dtype = Look(**look), q_BLHK.shape, q_BLHK.dtype
    look.check(B, H, L, cached[0].shape[3] + new[0].shape[1])
    (k_BGKW, v_BGKW), (k_BNGK, v_BNGK) = jax.tree.map(lambda a: a.astype(dtype), (cached, new))
    G, W = k_BGKW.shape[1], k_BGKW.shape[3]
    q_BLHK = masks.fill(q_BLHK, _rows(look.queries.mask_BL, q_BLHK))
    q_BLHK = q_BLHK * jnp.asarray(K**-0.5 if scale is None else scale, dtype)
    # Queries of a group together: in this order of axes no product on a CPU turns the cache around.
    q_BGMK = jnp.moveaxis(q_BLHK.reshape(B, L, G, H // G, K), 1, 3).reshape(B, G, -1, K)
    score_BHLW = _by_query("BGMK,BGKW->BGMW", q_BGMK, k_BGKW).reshape(B, H, L, W)
    score_BHLS = jnp.concatenate([score_BHLW, scores.dot(q_BLHK, k_BNGK)], axis=-1)
    weight_BHLS, total_BHL1 = _weights(score_BHLS, look)
    share_BHLS = (weight_BHLS / jnp.where(total_BHL1 > 0, total_BHL1, 1.0)).astype(dtype)
    share_BGMS = share_BHLS.reshape(B, G, -1, score_BHLS.shape[-1])
    y_BGMK = _by_query("BGMW,BGKW->BGMK", share_BGMS[..., :W], v_BGKW)
    y_BGMK += jnp.einsum("BGMN,BNGK->BGMK", share_BGMS[..., W:], v_BNGK, preferred_element_type=jnp.float32)
    return jnp.swapaxes(y_BGMK.reshape(B, H, L, K), 1, 2).astype(dtype)


def _by_query(subscripts: str, a_BGMX, cache_BGKW):
    """A product with a cache. A CPU reads it faster for each of a few queries than for all of them at once."""
    read = partial(jnp.einsum, subscripts, preferred_element_type=jnp.float32)
    M = a_BGMX.shape[2]
    if jax.default_backend() != "cpu" or M > FEW:
        return read(a_BGMX, cache_BGKW)
    return jnp.concatenate([read(a_BGMX[:, :, m : m + 1], cache_BGKW) for m in range(M)], axis=2)


def weigh(score_BHLS, v_BSGK, allowed_BLS=None, **look):
    """What `attend` makes of its scores, for scores of any kind (`seqjax.ops.scores`): (B, L, H, K), dtype of v.

    Args and errors: those of `Look`.
    """
    look = Look(allowed_BLS, **look)
    look.check(*score_BHLS.shape)
    v_BSGK = masks.fill(v_BSGK, _rows(look.keys.mask_BL, v_BSGK))
    return _mix(score_BHLS, v_BSGK, look, v_BSGK.dtype)


def weights(score_BHLS, allowed_BLS=None, **look):
    """The weights that `weigh` gives to values: (B, H, L, S), float32.

    Args and errors: those of `Look`.
    """
    look = Look(allowed_BLS, **look)
    look.check(*score_BHLS.shape)
    weight_BHLS, total_BHL1 = _weights(score_BHLS, look)
    return weight_BHLS / jnp.where(total_BHL1 > 0, total_BHL1, 1.0)


def _rows(mask_BL, a_BLHK):
    return None if mask_BL is None else jnp.broadcast_to(mask_BL, a_BLHK.shape[:2])


def _mix(score_BHLS, v_BSGK, look: Look, dtype):
    B, H, L, S = score_BHLS.shape
    G, K = v_BSGK.shape[2:]
    weight_BHLS, total_BHL1 = _weights(score_BHLS, look)
    weight_BGRLS = weight_BHLS.astype(dtype).reshape(B, G, H // G, L, S)
    y = jnp.einsum("BGRLS,BSGK->BLGRK", weight_BGRLS, v_BSGK, preferred_element_type=jnp.float32)
    total_BLH1 = jnp.swapaxes(total_BHL1, 1, 2)
    return (y.reshape(B, L, H, K) / jnp.where(total_BLH1 > 0, total_BLH1, 1.0)).astype(dtype)


def _weights(score_BHLS, look: Look):
    """Weights, and what they are to be divided by."""
    _, _, L, S = score_BHLS.shape
    score_BHLS = score_BHLS.astype(jnp.float32)
    if look.bias_BHLS is not None:
        score_BHLS += look.bias_BHLS.astype(jnp.float32)
    (position_BL, _), (position_BS, _) = look.queries.filled(L), look.keys.filled(S)
    score_BHLS += look.relative.bias(position_BL[:, :, None] - position_BS[:, None, :], look.causal)
    allowed_B1LS = look.allowed(L, S)[:, None]
    if look.soft_cap is not None:
        score_BHLS = look.soft_cap * jnp.tanh(jnp.where(allowed_B1LS, score_BHLS, 0.0) / look.soft_cap)
    if look.weights != "softmax":
        allowed_BHLS = jnp.broadcast_to(allowed_B1LS, score_BHLS.shape)
        return getattr(kinds, look.weights)(score_BHLS, allowed_BHLS), jnp.ones((*score_BHLS.shape[:3], 1))
    score_BHLS = jnp.where(allowed_B1LS, score_BHLS, FLOOR)
    # A finite floor, and a peak well above it: a row with nothing to see has only zeros, and inf - inf never happens.
    peak = jnp.max(score_BHLS, axis=-1, keepdims=True, initial=FLOOR / 2)
    if look.sinks_H is not None:
        sinks_1H11 = look.sinks_H.astype(jnp.float32)[None, :, None, None]
        peak = jnp.maximum(peak, sinks_1H11)
    peak = jax.lax.stop_gradient(peak)
    weight_BHLS = jnp.exp(score_BHLS - peak)
    total = jnp.sum(weight_BHLS, axis=-1, keepdims=True)
    return weight_BHLS, total if look.sinks_H is None else total + jnp.exp(sinks_1H11 - peak)
