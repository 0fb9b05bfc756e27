"""Softmax attention on arrays, by whatever computes it fastest and exactly."""

import functools
import logging
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from seqjax import masks
from seqjax.ops import _blockwise

Backend = Literal["auto", "reference", "blockwise", "xla", "cudnn"]
ALL = masks.Tokens()
FLOOR = _blockwise.FLOOR
# Tokens a block: the scores of one stay in the cache of a core; wider machines want more at a time.
CPU_BLOCK, BLOCK = 128, 512
LONG = 512  # tokens from which blocks are faster on a CPU of two cores; at 128 they take 1.3 times as long
FEW = 256 * 2**20  # bytes of scores that an accelerator may hold at once before blocks are worth their loops

log = logging.getLogger(__name__)


def attend(
    q_BLHK,
    k_BSGK,
    v_BSGK,
    allowed_BLS=None,
    *,
    queries: masks.Tokens = ALL,
    keys: masks.Tokens = ALL,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    soft_cap: float | None = None,
    sinks_H=None,
    bias_BHLS=None,
    backend: Backend = "auto",
):
    """softmax(scale q k^T) v over the keys that each query is allowed to see.

        s_ij = scale q_i . k_j + bias_ij,   with a soft cap c: c tanh(s_ij / c)
        y_i  = sum_j exp(s_ij) v_j / (sum_j exp(s_ij) + exp(sink))

    A query that may see nothing gets zeros and passes no gradient; what nobody may see is nowhere, were it NaN.
    Softmax is float32, products are of the dtype of q. G key heads serve H / G query heads each, in this order:
    multi-query attention at G = 1 (Shazeer 2019, arXiv:1911.02150), grouped-query (Ainslie et al. 2023,
    arXiv:2305.13245).

    Args:
      q_BLHK, k_BSGK, v_BSGK: queries, keys and values.
      allowed_BLS: bool, True = may look, whatever else is said; (1, L, S) for all rows alike. Costs O(L S) memory.
      queries, keys: positions, documents and masks. Documents (segments) do not see each other.
      causal: a query sees positions up to its own only.
      window: with `causal`, only the last so many of them, its own included.
      scale: None: 1 / sqrt(K).
      soft_cap: scores stay within +- soft_cap (Gemma Team 2024, arXiv:2408.00118).
      sinks_H: a logit per head that takes its share and gives nothing (OpenAI 2025, arXiv:2508.10925).
      bias_BHLS: added to the scores; (1, H, L, S) for all rows alike. Costs O(L S) memory.
      backend: "reference" holds all scores; "blockwise" those of a block, with memory linear in L, and skips blocks
        that nobody sees; "xla" and "cudnn" are `jax.nn.dot_product_attention`. "auto" takes the one for the call.

    Returns:
      (B, L, H, K) in the dtype of q.

    Raises:
      ValueError: shapes or options that do not fit, or a backend that cannot serve this call, with the reason.
    """
    _check(q_BLHK, k_BSGK, v_BSGK, causal, window, sinks_H, backend)
    call = dict(allowed_BLS=allowed_BLS, queries=queries, keys=keys, causal=causal, window=window)
    call |= dict(scale=q_BLHK.shape[-1] ** -0.5 if scale is None else scale, soft_cap=soft_cap, sinks_H=sinks_H)
    call["bias_BHLS"] = bias_BHLS
    if backend == "auto":
        backend = _choose(q_BLHK, k_BSGK, call)
    elif reason := _hindrance(backend, q_BLHK, k_BSGK, call):
        raise ValueError(f"backend={backend!r} cannot serve this attention: {reason}. Use 'auto' or another one.")
    q_BLHK = masks.fill(q_BLHK, _rows(queries.mask_BL, q_BLHK))
    k_BSGK, v_BSGK = (masks.fill(a, _rows(keys.mask_BL, a)) for a in (k_BSGK, v_BSGK))
    by = {"reference": _reference, "blockwise": _by_blocks}.get(backend) or functools.partial(_library, backend)
    return by(q_BLHK, k_BSGK.astype(q_BLHK.dtype), v_BSGK.astype(q_BLHK.dtype), **call)


def _check(q_BLHK, k_BSGK, v_BSGK, causal, window, sinks_H, backend):
    (B, _, H, K), shape = q_BLHK.shape, k_BSGK.shape
    if shape != v_BSGK.shape or (shape[0], shape[3]) != (B, K):
        raise ValueError(f"k is {list(shape)} and v {list(v_BSGK.shape)}, wanted [{B}, S, G, {K}] like q.")
    if H % shape[2]:
        raise ValueError(f"{shape[2]} key heads do not divide {H} query heads.")
    if window is not None and (window < 1 or not causal):
        raise ValueError(f"window={window} with causal={causal}: a window is at least 1 and looks back, causal=True.")
    if sinks_H is not None and sinks_H.shape != (H,):
        raise ValueError(f"sinks_H is {list(sinks_H.shape)}, wanted one per head, [{H}].")
    if backend not in get_args(Backend):
        raise ValueError(f"backend={backend!r}; choose from {', '.join(get_args(Backend))}.")


def _rows(mask_BL, a_BLHK):
    return None if mask_BL is None else jnp.broadcast_to(mask_BL, a_BLHK.shape[:2])


def _hindrance(backend: str, q_BLHK, k_BSGK, call) -> str | None:
    """What stands in the way of a backend in this call; None: nothing."""
    if backend == "blockwise" and call["allowed_BLS"] is not None:
        return "it knows positions, documents, masks and windows, and allowed_BLS is given"
    if backend == "blockwise" and call["bias_BHLS"] is not None:
        return "it adds no bias_BHLS to scores"
    if backend not in ("xla", "cudnn"):
        return None
    for name in ("soft_cap", "sinks_H", "bias_BHLS"):
        if call[name] is not None:
            return f"it has no {name}"
    if q_BLHK.dtype == jnp.float16 and jax.default_backend() == "cpu":
        return "its float16 products do not run on a CPU"
    if backend == "cudnn":
        if jax.default_backend() != "gpu":
            return f"it needs an NVIDIA GPU, this is {jax.default_backend()}"
        if q_BLHK.dtype not in (jnp.bfloat16, jnp.float16):
            return f"it computes in 16 bit, q is {q_BLHK.dtype}"
        if q_BLHK.shape[-1] % 8 or q_BLHK.shape[-1] > 128:
            return f"it wants a head width that is a multiple of 8 up to 128, got {q_BLHK.shape[-1]}"
        L, S = q_BLHK.shape[1], k_BSGK.shape[1]
        if (L % 2 or S % 2) and not _is_plain(call, L, S):
            return f"with a mask it wants even lengths, got {L} and {S}"
    return None


def _choose(q_BLHK, k_BSGK, call) -> str:
    """The fastest backend that computes exactly this call, by platform, dtype, head width, mask and length."""
    (B, L, H, _), S, platform = q_BLHK.shape, k_BSGK.shape[1], jax.default_backend()
    reason = _hindrance("cudnn", q_BLHK, k_BSGK, call)
    plain = _is_plain(call, L, S)
    if reason is None and plain:
        return _say("cudnn", f"{q_BLHK.dtype}, no mask but the causal one")
    if hindrance := _hindrance("blockwise", q_BLHK, k_BSGK, call):
        return _say("reference", hindrance)
    large = min(L, S) >= LONG if platform == "cpu" else L > 1 and 4 * B * H * L * S > FEW
    if large:
        return _say("blockwise", f"long sequences on {platform}; cudnn: {reason or 'masks would cost it L x S memory'}")
    return _say("reference", f"short sequences on {platform}")


@functools.cache
def _say(choice: str, reason: str) -> str:
    """Logs the choice of a backend, once per choice and reason."""
    log.log(
        logging.INFO if jax.default_backend() == "gpu" else logging.DEBUG, "attention: backend %s (%s)", choice, reason
    )
    return choice


def _is_plain(call, L: int, S: int) -> bool:
    """Whether who sees whom is said by `causal` and `window` alone."""
    given = (call["allowed_BLS"], *call["queries"], *call["keys"])
    return L == S and all(a is None for a in given)


def _allowed(L: int, S: int, allowed_BLS, queries, keys, causal, window):
    """(1 or B, L, S)."""
    seen_BLS = masks.visible(queries, keys, L, S, causal, window)
    return seen_BLS if allowed_BLS is None else seen_BLS & allowed_BLS


def _by_blocks(q_BLHK, k_BSGK, v_BSGK, *, queries, keys, causal, window, scale, soft_cap, sinks_H, **absent):
    q_BLHK = q_BLHK * jnp.asarray(scale, q_BLHK.dtype)
    rules = _blockwise.Rules(causal, window, soft_cap)
    block = CPU_BLOCK if jax.default_backend() == "cpu" else BLOCK
    return _blockwise.attend(q_BLHK, k_BSGK, v_BSGK, queries, keys, sinks_H, rules, block)


def _reference(q_BLHK, k_BSGK, v_BSGK, *, scale, soft_cap, sinks_H, bias_BHLS, **sight):
    (B, L, H, K), (S, G), dtype = q_BLHK.shape, k_BSGK.shape[1:3], q_BLHK.dtype
    q_BLGRK = (q_BLHK * jnp.asarray(scale, dtype)).reshape(B, L, G, H // G, K)
    scores = jnp.einsum("BLGRK,BSGK->BGRLS", q_BLGRK, k_BSGK, preferred_element_type=jnp.float32)
    if bias_BHLS is not None:
        scores = scores + bias_BHLS.astype(jnp.float32).reshape(-1, G, H // G, L, S)
    if soft_cap is not None:
        scores = soft_cap * jnp.tanh(scores / soft_cap)
    scores = jnp.where(_allowed(L, S, **sight)[:, None, None], scores, FLOOR)
    # A finite floor, and a peak well above it: a row with nothing to see has only zeros, and inf - inf never happens.
    peak = jnp.max(scores, axis=-1, keepdims=True, initial=FLOOR / 2)
    if sinks_H is not None:
        sinks = sinks_H.astype(jnp.float32).reshape(1, G, H // G, 1, 1)
        peak = jnp.maximum(peak, sinks)
    peak = jax.lax.stop_gradient(peak)
    weights = jnp.exp(scores - peak)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    total = total if sinks_H is None else total + jnp.exp(sinks - peak)
    y = jnp.einsum("BGRLS,BSGK->BLGRK", weights.astype(dtype), v_BSGK, preferred_element_type=jnp.float32)
    total = jnp.moveaxis(total, 3, 1)
    return (y / jnp.where(total > 0, total, 1.0)).astype(dtype).reshape(B, L, H, K)


def _library(backend, q_BLHK, k_BSGK, v_BSGK, *, scale, soft_cap, sinks_H, bias_BHLS, **sight):
    """`jax.nn.dot_product_attention`, which gives a query that sees nothing a mean of everything."""
    L, S = q_BLHK.shape[1], k_BSGK.shape[1]
    run = functools.partial(jax.nn.dot_product_attention, scale=scale, implementation=backend)
    if _is_plain(sight, L, S):
        local = None if sight["window"] is None else (sight["window"] - 1, 0)
        return run(q_BLHK, k_BSGK, v_BSGK, is_causal=sight["causal"], local_window_size=local)
    allowed_BLS = _allowed(L, S, **sight)
    y_BLHK = run(q_BLHK, k_BSGK, v_BSGK, mask=allowed_BLS[:, None])
    return jnp.where(allowed_BLS.any(axis=-1)[:, :, None, None], y_BLHK, 0)
