"""Cross-attention from its equations, and what it and all that reads a memory refuse."""

import functools

import gradients
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from built import logits
from gradients import close, run

from seqjax import spec
from seqjax.mixers.bidirectional import Bidirectional
from seqjax.mixers.cross_attention import CrossAttention
from seqjax.mixers.gru import GRU
from seqjax.mixers.stacked import Stacked
from seqjax.models import stack

B, L, S, D, H, G, K = 3, 4, 5, 8, 4, 2, 2
REAL_BL = np.array([[1, 1, 1, 1], [0, 1, 0, 1], [1, 1, 1, 0]], bool)
REAL_BS = np.array([[1, 1, 1, 1, 1], [0, 1, 1, 0, 1], [0, 0, 0, 0, 0]], bool)


@functools.cache
def drawn(**options):
    """A mixer, its parameters, none of them where it starts, x and a memory."""
    module = CrossAttention(width=D, heads=H, **options)
    draw = np.random.default_rng(0)
    x_BLD, memory_BSD = (draw.normal(size=(B, n, D)).astype("float32") for n in (L, S))
    read = lambda module, x, memory: module(x, module.prefill(memory))
    return module, gradients.drawn(module, x_BLD, memory_BSD, method=read), x_BLD, memory_BSD


@pytest.mark.parametrize("options", [dict(kv_heads=G, qk_norm=True), dict(backend="blockwise")], ids=["rich", "plain"])
def test_it_is_the_equations(options):
    module, params, x, memory = drawn(**options)
    state = run(module, params, memory, REAL_BS, method="prefill")
    (y, after), sown = run(module, params, x, state, mask_BL=REAL_BL, mutable=("intermediates",))
    weights = sown["intermediates"]["weights"][0]
    assert weights.shape == (B, H, L, S) and weights.dtype == jnp.float32
    jax.tree.map(np.testing.assert_array_equal, after, state)

    p, groups = jax.tree.map(lambda a: np.asarray(a, float), params["params"]), module.kv_heads or H
    q = (np.asarray(x, float) @ p["q"]["kernel"]).reshape(B, L, H, K)
    k, v = (a.reshape(B, S, groups, K) for a in np.split(np.asarray(memory, float) @ p["kv"]["kernel"], 2, axis=-1))
    if module.qk_norm:
        norm = lambda a, name: a / np.sqrt(np.mean(a**2, axis=-1, keepdims=True) + 1e-6) * p[name]["scale"]
        q, k = norm(q, "norm_q"), norm(k, "norm_k")
    wanted, wanted_weights = np.zeros((B, L, H, K)), np.zeros((B, H, L, S))
    for b, t, h in np.ndindex(B, L, H):
        if REAL_BL[b, t] and REAL_BS[b].any():
            g = h * groups // H
            w = np.exp(k[b, REAL_BS[b], g] @ q[b, t, h] / np.sqrt(K))
            wanted_weights[b, h, t, REAL_BS[b]] = w / w.sum()
            wanted[b, t, h] = wanted_weights[b, h, t] @ v[b, :, g]
    close(weights, wanted_weights)
    close(y, wanted.reshape(B, L, D) @ p["out"]["kernel"])
    assert not np.any(y[2]), "an empty memory is zeros"


def test_weights_are_kept_only_where_they_are_asked_for():
    module, params, x, memory = drawn()
    state = run(module, params, memory, method="prefill")
    assert "intermediates" not in params and state.mask_BS is None
    program = str(jax.make_jaxpr(lambda x: module.apply(params, x, state))(x))
    assert program.count(" exp ") == 1


def test_a_memory_is_read_once():
    """Steps multiply by no weights of keys and values, and give back the arrays they were given."""
    module, params, x, memory = drawn()
    state = run(module, params, memory, REAL_BS, method="prefill")
    without = {"params": {k: v for k, v in params["params"].items() if k != "kv"}}
    y, after = run(module, without, x[:, 0], state, method="step")
    close(y, run(module, params, x, state)[0][:, 0])
    assert after is not None and all(map(np.array_equal, jax.tree.leaves(after), jax.tree.leaves(state)))


@pytest.mark.parametrize(
    ("memory", "mask", "words"),
    [
        (jnp.zeros((B, S, D + 1)), None, r"memory_BSD is float32\[3, 5, 9\], CrossAttention wants \[B, S, 8\]"),
        (jnp.zeros((S, D)), None, r"memory_BSD is float32\[5, 8\], CrossAttention wants \[B, S, 8\]"),
        (jnp.zeros((B, 0, D)), None, r"float32\[3, 0, 8\], CrossAttention wants at least one row and one token"),
        (jnp.zeros((B, S, D), jnp.int32), None, "int32.*wants floating-point numbers: embed tokens"),
        (jnp.zeros((B, S, D)), np.ones((B, L), bool), r"mask_BS is bool\[3, 4\], wanted bool\[3, 5\]"),
    ],
)
def test_a_memory_that_does_not_fit_is_refused(memory, mask, words):
    module, params, *_ = drawn()
    with pytest.raises(ValueError, match=words):
        module.apply(params, memory, mask, method="prefill")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(heads=3), "mixer.heads=3 does not divide model.width=8"),
        (dict(heads=4, kv_heads=3), "mixer.kv_heads=3 does not divide mixer.heads=4"),
        (dict(backend="flash"), "backend: got 'flash'"),
    ],
)
def test_options_that_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        CrossAttention(width=D, **options)


ALONE = dict(inputs=spec.tokens(5, classes=3), head=logits(3), width=D, mixer=(GRU, CrossAttention))


@pytest.mark.parametrize(
    ("build", "whole"),
    [
        (functools.partial(stack.Model, **ALONE), "this model"),
        (functools.partial(Stacked, width=D, mixer=(GRU, CrossAttention)), "Stacked"),
        (functools.partial(Bidirectional, width=D, mixer=CrossAttention), "Bidirectional"),
    ],
)
def test_where_there_is_no_memory_none_is_read(build, whole):
    with pytest.raises(ValueError, match=f"CrossAttention reads a memory, and {whole} has none: choose another mixer"):
        build()
