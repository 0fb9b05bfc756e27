"""Attention on arrays: softmax attention by the fastest exact backend, and attention with all other weights."""

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
FEW = 4  # up to this many queries, a CPU is faster if it reads the cache once per query


class Look(NamedTuple):
    """Which keys each query sees, and how scores become weights.

        s_ij = score_ij + bias_ij,   with a soft cap c: c tanh(s_ij / c)
        w_ij = exp(s_ij) / (sum_j exp(s_ij) + exp(sink))    over the keys j that query i may see; or other `weights`

    A query that may see nothing has weights of zero and passes no gradient.

    allowed_BLS: bool, True = the query may see the key, if the other fields allow it too; (1, L, S) if all rows are
      equal. Costs O(L S) memory.
    queries, keys: positions, documents and masks. Documents (segments) do not see each other.
    causal, window, dilation, prefix, blocks: which positions see each other: `seqjax.masks.Pattern`.
    soft_cap: scores stay within +- soft_cap (Gemma Team 2024, arXiv:2408.00118).
    sinks_H: a logit per head that takes a share of the softmax but has no value (OpenAI 2025, arXiv:2508.10925).
    bias_BHLS: added to the scores; (1, H, L, S) if all rows are equal. Costs O(L S) memory.
    relative: a bias that depends on the distance, with memory linear in L: `seqjax.ops.positions.Relative`.
    weights: the function of `seqjax.ops.weights` that turns scores into weights.
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
        """Which positions see each other."""
        return masks.Pattern(self.causal, self.window, self.dilation, self.prefix, self.blocks)

    def allowed(self, L: int, S: int):
        """Which queries may see which keys: (1 or B, L, S), bool."""
        seen_BLS = masks.visible(self.queries, self.keys, L, S, self.pattern)
        return seen_BLS if self.allowed_BLS is None else seen_BLS & self.allowed_BLS

    def check(self, B: int, H: int, L: int, S: int) -> None:
        """Raises ValueError if options exclude each other, or do not fit scores (B, H, L, S)."""
        if min(1 if self.window is None else self.window, self.dilation) < 1:
            raise ValueError(f"window={self.window}, dilation={self.dilation}: both must be at least 1.")
        if self.sinks_H is not None and self.sinks_H.shape != (H,):
            raise ValueError(f"sinks_H is {list(self.sinks_H.shape)}, wanted one number per head, [{H}].")
        if self.weights not in get_args(Weights):
            raise ValueError(f"weights={self.weights!r}; choose from {', '.join(get_args(Weights))}.")
        if self.weights != "softmax" and self.sinks_H is not None:
            raise ValueError(f"sinks_H needs weights='softmax', got weights={self.weights!r}: remove one of them.")
        allowed, (slope_H, table_HN) = self.allowed_BLS, self.relative
        if allowed is not None and (allowed.dtype != bool or allowed.shape not in ((1, L, S), (B, L, S))):
            raise ValueError(
                f"allowed_BLS is {allowed.dtype}{list(allowed.shape)}, wanted bool{[B, L, S]}, or {[1, L, S]} if all "
                "rows are equal, with True = the query may see the key."
            )
        if slope_H is not None and slope_H.shape != (H,):
            raise ValueError(f"relative.slope_H is {list(slope_H.shape)}, wanted one slope per head, [{H}].")
        if table_HN is not None and (table_HN.shape[0] != H or not (self.causal or table_HN.shape[1] % 2)):
            raise ValueError(
                f"relative.table_HN is {list(table_HN.shape)}, wanted a row for each of {H} heads and, unless causal, "
                "an odd number of distances: 0, and as many for later keys as for earlier ones."
            )


def attend(q_BLHK, k_BSGK, v_BSGK, allowed_BLS=None, *, scale: float | None = None, backend: Backend = "auto", **look):
    """softmax(scale q k^T) v over the keys that each query is allowed to see.

    Softmax runs in float32, products in the dtype of q. Each of G key heads serves H / G consecutive query heads:
    multi-query attention if G = 1 (Shazeer 2019, arXiv:1911.02150), grouped-query attention if 1 < G < H (Ainslie et
    al. 2023, arXiv:2305.13245). Masked tokens have no effect, even if they are NaN.

    If the mesh splits sequences (`seqjax.ops.ring`) and there are as many keys as queries, ring attention runs over the
    devices (Liu et al. 2023, arXiv:2310.01889). With another number of keys, for example a cache, XLA decides.

    Args:
      q_BLHK, k_BSGK, v_BSGK: queries, keys and values.
      scale: the factor of the scores; None: 1 / sqrt(K).
      backend: "reference" holds all scores. "blockwise" holds the scores of one block (memory linear in L) and skips
        blocks that no query sees (on a CPU, if queries see many keys, heads are computed in turns, and each row skips
        its own blocks). "xla" and "cudnn" are `jax.nn.dot_product_attention`. "tokamax" uses the kernels of the package
        of this name. "auto" takes the fastest one that computes exactly this call.
      allowed_BLS, look: the fields of `Look`.

    Returns:
      (B, L, H, K) in the dtype of q.

    Raises:
      ValueError: shapes or options do not fit, or the backend cannot compute this call or be split over devices; the
        message gives the reason.
    """
    look = Look(allowed_BLS, **look)
    (B, L, H, K), shape = q_BLHK.shape, k_BSGK.shape
    if shape != v_BSGK.shape or (shape[0], shape[3]) != (B, K):
        raise ValueError(f"k is {list(shape)} and v {list(v_BSGK.shape)}, wanted [{B}, S, G, {K}] like q.")
    if H % shape[2]:
        raise ValueError(f"{shape[2]} key heads do not divide {H} query heads: choose a divisor of {H}.")
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
    """`attend` for one or a few queries, over keys and values in a cache and new ones outside it: -> (B, L, H, K).

    It copies nothing, so keys and values that no query may see must be finite.

    Args:
      cached: k and v (B, G, K, W); the slots are the last axis, because one query reads memory fastest in this layout.
      new: k and v (B, N, G, K).
      look: the fields of `Look`; its keys are the W cached ones followed by the N new ones.

    Raises:
      ValueError: options do not fit.
    """
    look, (B, L, H, K), dtype = Look(**look), q_BLHK.shape, q_BLHK.dtype
    look.check(B, H, L, cached[0].shape[3] + new[0].shape[1])
    (k_BGKW, v_BGKW), (k_BNGK, v_BNGK) = jax.tree.map(lambda a: a.astype(dtype), (cached, new))
    G, W = k_BGKW.shape[1], k_BGKW.shape[3]
    q_BLHK = masks.fill(q_BLHK, _rows(look.queries.mask_BL, q_BLHK))
    q_BLHK = q_BLHK * jnp.asarray(K**-0.5 if scale is None else scale, dtype)
    # The queries of a group are together: in this order of axes no product on a CPU transposes the cache.
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
    """A product with a cache; on a CPU, one query at a time if there are at most FEW."""
    read = partial(jnp.einsum, subscripts, preferred_element_type=jnp.float32)
    M = a_BGMX.shape[2]
    if jax.default_backend() != "cpu" or M > FEW:
        return read(a_BGMX, cache_BGKW)
    return jnp.concatenate([read(a_BGMX[:, :, m : m + 1], cache_BGKW) for m in range(M)], axis=2)


def weigh(score_BHLS, v_BSGK, allowed_BLS=None, **look):
    """`attend` from given scores of any kind (`seqjax.ops.scores`): -> (B, L, H, K) in the dtype of v.

    Further arguments and errors are those of `Look`.
    """
    look = Look(allowed_BLS, **look)
    look.check(*score_BHLS.shape)
    v_BSGK = masks.fill(v_BSGK, _rows(look.keys.mask_BL, v_BSGK))
    return _mix(score_BHLS, v_BSGK, look, v_BSGK.dtype)


def weights(score_BHLS, allowed_BLS=None, **look):
    """The weights that `weigh` gives to values: (B, H, L, S), float32.

    Further arguments and errors are those of `Look`.
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
    """Unnormalised weights, and the totals by which to divide them."""
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
    # FLOOR is finite and the peak stays well above it: a query that sees nothing gets zeros, never inf - inf.
    peak = jnp.max(score_BHLS, axis=-1, keepdims=True, initial=FLOOR / 2)
    if look.sinks_H is not None:
        sinks_1H11 = look.sinks_H.astype(jnp.float32)[None, :, None, None]
        peak = jnp.maximum(peak, sinks_1H11)
    peak = jax.lax.stop_gradient(peak)
    weight_BHLS = jnp.exp(score_BHLS - peak)
    total = jnp.sum(weight_BHLS, axis=-1, keepdims=True)
    return weight_BHLS, total if look.sinks_H is None else total + jnp.exp(sinks_1H11 - peak)
