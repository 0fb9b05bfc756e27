"""The backends of `seqjax.ops.attention.attend`, and how one of them is chosen for a call."""

import functools
import importlib.util
import math
import os
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from seqjax.ops import _blocks, _blockwise, _nvidia, _ring_attention, _turns, ring
from seqjax.ops._chunks import is_local
from seqjax.ops._say import say

Backend = Literal["auto", "reference", "blockwise", "xla", "cudnn", "tokamax"]
# Tokens per block: on a CPU the scores of a block stay in the cache of a core; accelerators need larger blocks.
CPU_BLOCK, BLOCK = 128, 512
LONG = 256  # from this many tokens, blocks are faster on one and two cores of a CPU; at 128, two cores lose a tenth
FAR = 1024  # turns of heads are faster if a query sees at least this many keys
FEW = 256 * 2**20  # bytes of scores up to which an accelerator is faster without the loops over blocks


def choose(backend: Backend, q_BLHK, k_BSGK, look) -> str:
    """The requested backend; for "auto" the fastest one that computes exactly this call; "ring" over several devices.

    The choice depends on platform, dtype, head width, mask and length. It is logged once.

    Raises:
      ValueError: the requested backend cannot compute this call; the message gives the reason.
    """
    if backend not in get_args(Backend):
        raise ValueError(f"backend={backend!r}; choose from {', '.join(get_args(Backend))}.")
    if q_BLHK.shape[1] == k_BSGK.shape[1] and (n := ring.devices(q_BLHK.shape[1])) > 1:
        reason = _hindrance("blockwise", q_BLHK, k_BSGK, look)
        if backend not in ("auto", "blockwise"):
            reason = f"backend={backend!r} runs on one device"
        if reason:
            raise ValueError(
                f"ring attention over {n} devices cannot compute this call: {reason}. Remove that option, or do not "
                "split sequences: parallel.sequence=1."
            )
        return say("attention", "ring", f"sequences are split over {n} devices")
    if backend != "auto":
        if reason := _hindrance(backend, q_BLHK, k_BSGK, look):
            raise ValueError(f"backend={backend!r} cannot compute this attention: {reason}. Use 'auto' or another one.")
        return backend
    (B, L, H, _), S, platform = q_BLHK.shape, k_BSGK.shape[1], jax.default_backend()
    reason = _hindrance("cudnn", q_BLHK, k_BSGK, look)
    if reason is None and _is_plain(look, L, S):
        return say("attention", "cudnn", f"{q_BLHK.dtype}, no mask except the causal one")
    if hindrance := _hindrance("blockwise", q_BLHK, k_BSGK, look):
        return say("attention", "reference", f"blockwise: {hindrance}")
    large = min(L, S) >= LONG if platform == "cpu" else L > 1 and 4 * B * H * L * S > FEW
    if large:
        against = reason or "masks would cost it L x S memory"
        return say("attention", "blockwise", f"long sequences on {platform}; cudnn: {against}")
    return say("attention", "reference", f"short sequences on {platform}")


def _hindrance(backend: str, q_BLHK, k_BSGK, look) -> str | None:
    """The reason why a backend cannot compute this call; None if it can."""
    if backend == "reference":
        return None
    if look.weights != "softmax":
        return f"it computes weights='softmax' only, not {look.weights!r}"
    if look.bias_BHLS is not None:
        return "it cannot add bias_BHLS to scores"
    if backend == "blockwise":
        if look.allowed_BLS is not None:
            return "it does not support allowed_BLS, only positions, documents, masks and windows"
        return None
    if look.sinks_H is not None:
        return "it does not support sinks_H"
    if any(a is not None for a in look.relative):
        return "it does not support a relative bias"
    if look.soft_cap is not None and backend != "tokamax":
        return "it does not support soft_cap"
    if q_BLHK.dtype == jnp.float16 and jax.default_backend() == "cpu":
        return "its float16 products do not run on a CPU"
    if backend == "tokamax" and importlib.util.find_spec("tokamax") is None:
        return "tokamax is not installed: pip install 'seqjax[tokamax]'"
    return _hindrance_of_cudnn(q_BLHK, k_BSGK, look) if backend == "cudnn" else None


def _hindrance_of_cudnn(q_BLHK, k_BSGK, look) -> str | None:
    if reason := _nvidia.hindrance("8.0"):
        return reason
    if q_BLHK.dtype not in (jnp.bfloat16, jnp.float16):
        return f"it needs bfloat16 or float16, q is {q_BLHK.dtype}"
    if q_BLHK.shape[-1] % 8 or q_BLHK.shape[-1] > 128:
        return f"it needs a head width that is a multiple of 8 and at most 128, got {q_BLHK.shape[-1]}"
    L, S = q_BLHK.shape[1], k_BSGK.shape[1]
    if L % 2 or S % 2:
        return f"JAX allows only even lengths for its gradients and masks, got {L} and {S}"
    G, n = k_BSGK.shape[2], jax.sharding.get_abstract_mesh().shape.get("tensor", 1)
    if G % n:
        return f"JAX gives each device whole heads, and {G} key heads cannot be divided over tensor={n} devices"
    return None


def _is_plain(look, L: int, S: int) -> bool:
    """Whether only `causal`, and a window that looks back, decide which tokens see each other."""
    given = (look.allowed_BLS, *look.queries, *look.keys, look.blocks)
    if look.window is not None and not look.causal:  # cuDNN has no window that looks ahead
        return False
    return L == S and all(a is None for a in given) and look.dilation == 1 and look.prefix == 0


def by_blocks(backend: str, q_BLHK, k_BSGK, v_BSGK, look):
    """Attention in blocks of tokens, on one device or over several; q is already scaled."""
    block, most = plan(q_BLHK, k_BSGK, look, cores())
    share = _blocks.share(look.pattern, q_BLHK.shape[1], k_BSGK.shape[1], block)
    rules = _blockwise.Rules(look.pattern, look.soft_cap, share)
    given = (q_BLHK, k_BSGK, v_BSGK, look.queries, look.keys, look.sinks_H, look.relative)
    if backend == "ring":
        return _ring_attention.attend(*given, rules, block)
    way = functools.partial(_blockwise.attend, rules=rules, block=block)
    return way(*given) if most is None else _turns.attend(way, *given, most)


def cores() -> int:
    """The number of CPU cores that XLA uses."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def plan(q_BLHK, k_BSGK, look, cores: int) -> tuple[int, int | None]:
    """The tokens per block, and how many groups of heads are computed at a time; None: all groups of all rows.

    On a CPU the groups take turns if a query sees many keys, because the keys of one group then stay in the cache.
    Several cores share the products of a turn, so the products must be larger; one group occupies about four cores.
    On one core larger blocks are faster if a query sees even more keys, unless the sequences are packed: with several
    documents in a row, smaller blocks skip more keys.
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
    """`dot_product_attention` of JAX or tokamax. A query that sees nothing gets zeros; theirs gets a mean of all."""
    L, S = q_BLHK.shape[1], k_BSGK.shape[1]
    if backend == "tokamax":
        import tokamax
        from absl import flags

        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # otherwise tokamax parses our command line
        run = functools.partial(tokamax.dot_product_attention, scale=scale, logits_soft_cap=look.soft_cap)
    else:
        run = functools.partial(jax.nn.dot_product_attention, scale=scale, implementation=backend)
    if _is_plain(look, L, S):
        local = None if look.window is None else (look.window - 1, 0)
        return run(q_BLHK, k_BSGK, v_BSGK, is_causal=look.causal, local_window_size=local)
    allowed_BLS = look.allowed(L, S)
    y_BLHK = run(q_BLHK, k_BSGK, v_BSGK, mask=allowed_BLS[:, None])
    return jnp.where(allowed_BLS.any(axis=-1)[:, :, None, None], y_BLHK, 0)
