"""cuDNN's kernels, with JAX's own references in their place: the code of JAX around them runs on a CPU as on a GPU."""

import jax
import jax.numpy as jnp
from jax._src.cudnn import fused_attention_stablehlo as fused
from jax.experimental import rnn
from jax.interpreters import mlir

from seqjax.ops import _nvidia

LSTM = ("input_size", "hidden_size", "num_layers", "dropout", "bidirectional")


def stand_in(monkeypatch) -> None:
    """Lets this process believe that it has an NVIDIA GPU."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(_nvidia, "hindrance", lambda least="": None)
    monkeypatch.setattr(rnn.gpu_rnn, "compute_rnn_workspace_reserve_space_sizes", lambda *_: (1, 1), raising=False)
    monkeypatch.setattr(fused, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(fused, "check_compute_capability", lambda _: True)
    monkeypatch.setattr(fused, "is_cuda_compute_capability_equal", lambda _: False)
    for primitive, function in (
        (rnn.rnn_fwd_p, _lstm),
        (rnn.rnn_bwd_p, _lstm_backward),
        (fused._dot_product_attention_fwd_p, _attention),
        (fused._dot_product_attention_bwd_p, _attention_backward),
    ):
        mlir.register_lowering(primitive, mlir.lower_fun(function, multiple_results=True), platform="cpu")


def _lstm(x, h, c, weights, lengths, **options):
    sizes = [options[name] for name in LSTM]
    parts = rnn.unpack_lstm_weights(weights, *sizes[:3], sizes[4])
    return [*rnn.lstm_ref(x, h, c, *parts, lengths, *sizes), jnp.zeros(1, jnp.float32)]


def _lstm_backward(dy, dh, dc, x, h, c, weights, y, reserve, lengths, **options):
    run = lambda *args: tuple(_lstm(*args, lengths, **options)[:3])
    return list(jax.vjp(run, x, h, c, weights)[1]((dy, dh, dc)))


def _attention(q, k, v, *rest, scale, mask_type, sliding_window_length, is_training, **options):
    (B, L, H, _), (S, G) = q.shape, k.shape[1:3]
    wide = lambda a: a.astype(jnp.float32)
    scores = scale * jnp.einsum("BLGRK,BSGK->BGRLS", wide(q).reshape(B, L, G, H // G, -1), wide(k))
    back = jnp.arange(L)[:, None] - jnp.arange(S)[None]
    seen = (back >= 0) | (mask_type is fused.MaskType.NO_MASK)
    seen &= back < (sliding_window_length or S)
    scores = jnp.where(seen[None, None, None], scores, -jnp.inf)
    y = jnp.einsum("BGRLS,BSGK->BLGRK", jax.nn.softmax(scores), wide(v)).reshape(q.shape).astype(q.dtype)
    return [y, jax.nn.logsumexp(scores, axis=-1).reshape(B, H, L)] if is_training else [y]


def _attention_backward(q, k, v, *rest, **options):
    run = lambda *qkv: _attention(*qkv, is_training=False, **options)[0]
    return list(jax.vjp(run, q, k, v)[1](rest[-1]))
