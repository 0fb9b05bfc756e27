"""Which of several ways computes a call of `seqjax.ops.attention.attend`, and the ways themselves."""

import functools
import importlib.util
import math
import os
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from seqjax.ops import _blocks, _blockwise, _ring_attention, _turns, ring
from seqjax.ops._chunks import is_local
from seqjax.ops._say import say

Backend = Literal["auto", "reference", "blockwise", "xla", "cudnn", "tokamax"]
# Tokens a block: the scores of one stay in the cache of a core; wider machines want more at a time.
CPU_BLOCK, BLOCK = 128, 512
LONG = 256  # tokens from which blocks are faster on one core of a CPU and on two; at 128 two are slower by a tenth
FAR = 1024  # keys that a query sees from which turns pay
FEW = 256 * 2**20  # bytes of scores that an accelerator may hold at once before blocks are worth their loops


def choose(backend: Backend, q_BLHK, k_BSGK, look) -> str:
    """The backend that is asked for, or the fastest that computes exactly this call; "ring" over several devices.

    By platform, dtype, head width, mask and length; the choice is logged once.

    Raises:
      ValueError: the one asked for cannot serve, with the reason.
    """
    if backend not in get_args(Backend):
        raise ValueError(f"backend={backend!r}; choose from {', '.join(get_args(Backend))}.")
    if q_BLHK.shape[1] == k_BSGK.shape[1] and (n := ring.devices(q_BLHK.shape[1])) > 1:
        reason = _hindrance("blockwise", q_BLHK, k_BSGK, look)
        if backend not in ("auto", "blockwise"):
            reason = f"backend={backend!r} runs on one"
        if reason:
            raise ValueError(
                f"attention in blocks, as it goes round {n} devices, cannot serve this one: {reason}. Take that out, "
                "or leave sequences whole: parallel.sequence=1."
            )
        return say("attention", "ring", f"sequences are cut over {n} devices")
    if backend != "auto":
        if reason := _hindrance(backend, q_BLHK, k_BSGK, look):
            raise ValueError(f"backend={backend!r} cannot serve this attention: {reason}. Use 'auto' or another one.")
        return backend
    (B, L, H, _), S, platform = q_BLHK.shape, k_BSGK.shape[1], jax.default_backend()
    reason = _hindrance("cudnn", q_BLHK, k_BSGK, look)
    if reason is None and _is_plain(look, L, S):
        return say("attention", "cudnn", f"{q_BLHK.dtype}, no mask but the causal one")
    if hindrance := _hindrance("blockwise", q_BLHK, k_BSGK, look):
        return say("attention", "reference", hindrance)
    large = min(L, S) >= LONG if platform == "cpu" else L > 1 and 4 * B * H * L * S > FEW
    if large:
        against = reason or "masks would cost it L x S memory"
        return say("attention", "blockwise", f"long sequences on {platform}; cudnn: {against}")
    return say("attention", "reference", f"short sequences on {platform}")


def _hindrance(backend: str, q_BLHK, k_BSGK, look) -> str | None:
    """What stands in the way of a backend in this call; None: nothing."""
    if backend == "reference":
        return None
    if look.weights != "softmax":
        return f"its weights are those of a softmax, not of {look.weights}"
    if look.bias_BHLS is not None:
        return "it adds no bias_BHLS to scores"
    if backend == "blockwise":
        if look.allowed_BLS is not None:
            return "it knows positions, documents, masks and windows, and allowed_BLS is given"
        return None
    if look.sinks_H is not None:
        return "it has no sinks_H"
    if any(a is not None for a in look.relative):
        return "it has no relative bias"
    if look.soft_cap is not None and backend != "tokamax":
        return "it has no soft_cap"
    if q_BLHK.dtype == jnp.float16 and jax.default_backend() == "cpu":
        return "its float16 products do not run on a CPU"
    if backend == "tokamax" and importlib.util.find_spec("tokamax") is None:
        return "tokamax is not installed: pip install 'seqjax[tokamax]'"
    return _hindrance_of_cudnn(q_BLHK, k_BSGK, look) if backend == "cudnn" else None


def _hindrance_of_cudnn(q_BLHK, k_BSGK, look) -> str | None:
    if jax.default_backend() != "gpu":
        return f"it needs an NVIDIA GPU, this is {jax.default_backend()}"
    if q_BLHK.dtype not in (jnp.bfloat16, jnp.float16):
        return f"it computes in 16 bit, q is {q_BLHK.dtype}"
    if q_BLHK.shape[-1] % 8 or q_BLHK.shape[-1] > 128:
        return f"it wants a head width that is a multiple of 8 up to 128, got {q_BLHK.shape[-1]}"
    L, S = q_BLHK.shape[1], k_BSGK.shape[1]
    if L % 2 or S % 2:
        return f"for gradients, and with a mask, JAX lets it take even lengths alone, got {L} and {S}"
    return None


def _is_plain(look, L: int, S: int) -> bool:
    """Whether who sees whom is said by `causal` and `window` alone."""
    given = (look.allowed_BLS, *look.queries, *look.keys, look.blocks)
    return L == S and all(a is None for a in given) and look.dilation == 1 and look.prefix == 0


def by_blocks(backend: str, q_BLHK, k_BSGK, v_BSGK, look):
    """Attention in blocks of tokens, of a scaled q: on one device, or over several."""
    block, most = plan(q_BLHK, k_BSGK, look, cores())
    share = _blocks.share(look.pattern, q_BLHK.shape[1], k_BSGK.shape[1], block)
    rules = _blockwise.Rules(look.pattern, look.soft_cap, share)
    given = (q_BLHK, k_BSGK, v_BSGK, look.queries, look.keys, look.sinks_H, look.relative)
    if backend == "ring":
        return _ring_attention.attend(*given, rules, block)
    way = functools.partial(_blockwise.attend, rules=rules, block=block)
    return way(*given) if most is None else _turns.attend(way, *given, most)


def cores() -> int:
    """How many XLA's CPU works on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def plan(q_BLHK, k_BSGK, look, cores: int) -> tuple[int, int | None]:
    """Tokens per block, and how many groups of heads go through the blocks at a time; None: all of all rows.

    Groups take turns on a CPU if a query sees many keys: those of one stay in the cache. Several cores share the
    products of a turn, which have to be larger for that; they are enough for about four of them. On one core larger
    blocks pay if a query sees still more keys, unless these may be of other documents: smaller ones skip more of them.
    """
    if jax.default_backend() != "cpu":
        return BLOCK, None
    (L, H), (S, G), reach = q_BLHK.shape[1:3], k_BSGK.shape[1:3], look.pattern.reach
    seen = min(L, S, L if reach is None else reach + 1)
    if seen < FAR or look.blocks is not None or not is_local():
        return CPU_BLOCK, None
    packed = look.queries.segment_BL is not None or look.keys.segment_BL is not None
    one = CPU_BLOCK if packed or seen < 2 * FAR else 2 * CPU_BLOCK
    block = max(CPU_BLOCK, (one if cores == 1 else BLOCK) // math.isqrt(H // G))
    return block, max(1, cores // 4)


def library(backend: str, q_BLHK, k_BSGK, v_BSGK, scale: float, look):
    """`dot_product_attention` of JAX or tokamax, which give a query that sees nothing a mean of everything."""
    L, S = q_BLHK.shape[1], k_BSGK.shape[1]
    if backend == "tokamax":
        import tokamax
        from absl import flags

        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # or tokamax takes the command line for its own
        run = functools.partial(tokamax.dot_product_attention, scale=scale, logits_soft_cap=look.soft_cap)
    else:
        run = functools.partial(jax.nn.dot_product_attention, scale=scale, implementation=backend)
    if _is_plain(look, L, S):
        side = None if look.window is None else look.window - 1
        local = None if side is None else (side, 0 if look.causal else side)
        return run(q_BLHK, k_BSGK, v_BSGK, is_causal=look.causal, local_window_size=local)
    allowed_BLS = look.allowed(L, S)
    y_BLHK = run(q_BLHK, k_BSGK, v_BSGK, mask=allowed_BLS[:, None])
    return jnp.where(allowed_BLS.any(axis=-1)[:, :, None, None], y_BLHK, 0)
