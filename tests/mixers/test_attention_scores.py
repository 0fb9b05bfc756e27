"""Attention with every score, weight and view: from the equations, by its weights, and how it decodes."""

import gradients
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import close, run

from seqjax.mixers.attention import Attention
from seqjax.mixers.linear_attention import LinearAttention
from seqjax.mixers.sparse_attention import SparseAttention
from seqjax.ops import positions, weights

pytestmark = pytest.mark.usefixtures("compile_once")

B, L, D, H, G, K = 2, 9, 16, 4, 2, 4
SCORES = ["scaled_dot", "dot", "general", "cosine", "additive", "location"]


def drawn(module, batch=B):
    """A module's parameters, none of them where it starts, and an input."""
    params = gradients.drawn(module, jnp.zeros((1, 2, D)))["params"]
    return params, np.random.default_rng(2).normal(size=(batch, L, D)).astype("float32")


def marked(row, place, length=L):
    flags_BL = np.zeros((B, length), bool)
    flags_BL[row, place] = True
    return flags_BL


def looked(module, params, x, **flags):
    """The output, and the weights that were collected."""
    (y, _), collected = run(module, {"params": params}, x, mutable=("intermediates",), **flags)
    return y, collected["intermediates"]["weights"][0]


def by_score(name, p, q, k, x):
    """(B, H, L, L) from the words of the docstring, with numpy."""
    k = np.repeat(k, H // k.shape[2], axis=2)
    dots = np.einsum("blhk,bshk->bhls", q, k)
    if name == "scaled_dot":
        return dots / np.sqrt(K)
    if name == "dot":
        return dots
    if name == "general":
        return np.einsum("blhk,hjk,bshj->bhls", q, p["bilinear"], k)
    if name == "cosine":
        length = lambda a: np.moveaxis(np.linalg.norm(a, axis=-1), 2, 1)
        hot = np.exp(p["log_temperature"])[None, :, None, None]
        return hot * dots / length(q)[..., None] / length(k)[:, :, None]
    if name == "additive":
        return np.einsum("blshk,hk->bhls", np.tanh(q[:, :, None] + k[:, None]), p["direction"])
    places = (x @ p["location"]["kernel"]).reshape(B, L, H, -1)
    return np.moveaxis(places, 2, 1)[..., :L]


@pytest.mark.parametrize("kv_heads", [H, G])
@pytest.mark.parametrize("name", SCORES)
def test_scores_are_the_equations(name, kv_heads):
    module = Attention(width=D, heads=H, kv_heads=kv_heads, max_length=L, score=name, positions="none")
    params, x = drawn(module)
    p = jax.tree.map(lambda a: np.asarray(a, float), params)
    projected = np.asarray(x, float) @ p["qkv"]["kernel"]
    E = 0 if name == "location" else K
    q, k, v = np.split(projected, [H * E, (H + kv_heads) * E], axis=-1)
    q, k, v = q.reshape(B, L, H, E), k.reshape(B, L, kv_heads, E), v.reshape(B, L, kv_heads, K)
    score = np.where(np.tri(L, dtype=bool), by_score(name, p, q, k, np.asarray(x, float)), -np.inf)
    weight = np.exp(score - score.max(-1, keepdims=True))
    weight /= weight.sum(-1, keepdims=True)
    y, got = looked(module, params, x)
    np.testing.assert_allclose(got, weight, rtol=1e-3, atol=1e-4)
    read = np.einsum("bhls,bshk->blhk", weight, np.repeat(v, H // kv_heads, axis=2)).reshape(B, L, D)
    np.testing.assert_allclose(y, read @ p["out"]["kernel"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", [s for s in SCORES if s != "location"])
def test_yarn_makes_all_scores_sharper(name):
    """By (0.1 log(factor) + 1)^2; among so many trained positions it turns nothing more slowly."""
    make = lambda **scaling: Attention(width=D, heads=H, max_length=L, score=name, **scaling)
    params, x = drawn(make())
    _, plain = looked(make(), params, x)
    _, sharp = looked(make(rope_scaling="yarn", rope_factor=64.0, rope_original_length=10**9), params, x)
    wanted = np.where(plain > 0, np.asarray(plain, float), 1e-30) ** ((0.1 * np.log(64) + 1) ** 2)
    np.testing.assert_allclose(sharp, wanted / wanted.sum(-1, keepdims=True), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "hard", "sparsemax", "entmax"])
def test_weights_are_those_of_the_scores(kind):
    module = Attention(width=D, heads=H, max_length=L, weights=kind, positions="none")
    params, x = drawn(module)
    q, k, _ = np.split(np.asarray(x @ params["qkv"]["kernel"]), 3, axis=-1)
    score = np.einsum("blhk,bshk->bhls", *(a.reshape(B, L, H, K) for a in (q, k))) / np.sqrt(K)
    if kind == "sigmoid":
        start = gradients.init(module, x)["params"]["bias"]
        np.testing.assert_allclose(start, -np.log(L), rtol=1e-6)
        score = score + np.asarray(params["bias"])[None, :, None, None]
    allowed = np.broadcast_to(np.tri(L, dtype=bool), score.shape)
    close(looked(module, params, x)[1], jax.jit(getattr(weights, kind))(score, allowed))


@pytest.mark.parametrize("features", ["elu", "taylor", "learned"])
def test_weights_of_linear_attention_are_what_values_get(features):
    module = LinearAttention(width=D, heads=H, feature_map=features)
    params, x = drawn(module)
    reset = marked(0, 5)
    y, weight = looked(module, params, x, reset_BL=reset)
    v_BLHK = (x @ params["qkv"]["kernel"])[..., -D:].reshape(B, L, H, K)
    close(y, np.einsum("bhls,bshk->blhk", weight, v_BLHK).reshape(B, L, D) @ params["out"]["kernel"])
    np.testing.assert_allclose(weight.sum(-1), 1, rtol=1e-5)
    assert not np.any(np.triu(weight, 1)) and not np.any(weight[0, :, 5:, :5])
    (_, state), _ = run(module, {"params": params}, x[:, :3], module.init_state(B), mutable=("intermediates",))
    _, found = run(module, {"params": params}, x[:, 3:], state, mutable=("intermediates",))
    close(found["intermediates"]["weights"][0][1], weight[1, :, 3:, 3:])


VIEWS = {
    "bidirectional": (Attention, dict(causal=False), lambda t, s: True),
    "prefix": (Attention, dict(prefix=4), lambda t, s: s <= t or s < 4),
    "dilated": (Attention, dict(window=3, dilation=2), lambda t, s: t - s in (0, 2, 4)),
    "both sides": (Attention, dict(causal=False, window=3), lambda t, s: abs(t - s) < 3),
    "blocks": (
        SparseAttention,
        dict(block_size=2, local_blocks=1, global_blocks=1, random_blocks=0),
        lambda t, s: s <= t and (t // 2 - s // 2 <= 1 or s < 2),
    ),
    "blocks, both sides": (
        SparseAttention,
        dict(block_size=3, local_blocks=0, global_blocks=1, random_blocks=0, causal=False),
        lambda t, s: t // 3 == s // 3 or min(t, s) < 3,
    ),
}


@pytest.mark.parametrize(
    "backend",
    ["reference", pytest.param("blockwise", marks=pytest.mark.slow)],  # which tests/ops/test_attention.py has
)
@pytest.mark.parametrize("name", VIEWS)
def test_views(name, backend):
    """Exactly what is in view has weight; a masked token is in nobody's; and another document neither."""
    kind, options, sees = VIEWS[name]
    module = kind(width=D, heads=H, max_length=L, backend=backend, **options)
    params, x = drawn(module)
    wanted = np.array([[sees(t, s) for s in range(L)] for t in range(L)])
    y, weight = looked(module, params, x)
    np.testing.assert_array_equal(weight > 0, np.broadcast_to(wanted, weight.shape))
    mask = ~marked(1, [1, 6])
    reset = marked(0, 5)
    y, weight = looked(module, params, x, mask_BL=mask, reset_BL=reset)
    assert not np.any(weight[0, :, :5, 5:]) and not np.any(weight[0, :, 5:, :5])
    assert not np.any(weight[1, :, :, [1, 6]]) and not np.any(y[1, [1, 6]])
    alone, _ = run(module, {"params": params}, x[1:, np.flatnonzero(mask[1])])
    close(y[1, np.flatnonzero(mask[1])], alone[0])
    late, _ = run(module, {"params": params}, x[:1, 5:])
    close(y[0, 5:], late[0])


def test_relative_positions_tell_before_from_after():
    module = Attention(width=D, heads=H, causal=False, positions="relative", num_buckets=4, max_distance=6)
    params, _ = drawn(module)
    table = np.asarray(params["relative"])
    assert table.shape == (8, H)
    backs = np.arange(-8, 9)
    bias = lambda params, backs: module.bind({"params": params}).relative().bias(backs, causal=False)
    bias = jax.jit(bias)(params, backs[None, None])[0, :, 0]
    buckets = jax.device_get(jax.jit(positions.relative_bucket, static_argnums=(1, 2))(np.abs(backs), 4, 6))
    for i, (back, bucket) in enumerate(zip(backs, buckets, strict=True)):
        np.testing.assert_allclose(bias[:, i], table[bucket + (4 if back < 0 else 0)])


def test_what_has_no_past_has_no_state():
    with pytest.raises(ValueError, match=r"no state: set mixer\.causal=True"):
        Attention(width=D, causal=False).init_state(2)
    assert not Attention(width=D, causal=False).causal and Attention(width=D).causal


def test_a_dilated_window_keeps_what_it_reaches():
    assert Attention(width=D, window=3, dilation=4).init_state(1).position_BW.shape == (1, 9)


@pytest.mark.parametrize("size", [4, 6])
def test_a_prefix_comes_in_one_call(size):
    module = Attention(width=D, max_length=12, prefix=4)
    params, x = drawn(module)
    call = lambda x, state, **flags: run(module, {"params": params}, x, state, **flags)
    whole, _ = call(x, None)
    first, state = call(x[:, :size], module.init_state(B))
    rest, state = call(x[:, size:], state)
    close(np.concatenate([first, rest], axis=1), whole)
    close(call(x[:, :4], state, reset_BL=marked(np.s_[:], 0, 4))[0], whole[:, :4])


def test_a_prefix_in_pieces_is_never_silent():
    module = Attention(width=D, max_length=12, prefix=4)
    params, x = drawn(module)
    call = lambda x, state, **flags: run(module, {"params": params}, x, state, **flags)
    _, state = call(x[:, :3], module.init_state(B))
    reset = marked(np.s_[:], 2, 6)
    y, state = call(np.concatenate([x[:, 3:5], x[:, :4]], axis=1), state, reset_BL=reset)
    assert np.isnan(y[:, :2]).all()
    close(y[:, 2:], call(x[:, :4], None)[0])
    assert np.isfinite(call(x[:, 4:5], state)[0]).all()
    _, state = call(x[:, :3], module.init_state(B))
    for t in range(3, 6):
        y, state = call(x[:, t : t + 1], state)
        assert np.isnan(y).all()


def test_what_is_masked_as_a_whole_leaves_a_begun_prefix():
    module = Attention(width=D, max_length=12, prefix=4)
    params, x = drawn(module)
    _, state = run(module, {"params": params}, x[:, :3], module.init_state(B))
    y, after = run(module, {"params": params}, x[:, 3:5], state, mask_BL=np.zeros((B, 2), bool))
    jax.tree.map(np.testing.assert_array_equal, after, state)
    assert not y.any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(causal=False, prefix=2), "mixer.prefix=2 needs mixer.causal=True and no mixer.window"),
        (dict(window=4, prefix=2), "mixer.prefix=2 needs mixer.causal=True and no mixer.window"),
        (dict(score="location"), "'location' has no q and k: choose other mixer.positions than 'rotary'"),
        (dict(sinks=True, weights="sparsemax"), "mixer.sinks needs mixer.weights='softmax', got 'sparsemax'"),
        (dict(score="additive", backend="blockwise"), "'additive' is not such a product: set mixer.backend='auto'"),
        (dict(score="bilinear"), "wanted one of 'scaled_dot', 'dot', 'general', 'cosine', 'additive', 'location'"),
        (dict(positions="learned", window=3, causal=False), "but mixer.window allows longer"),
    ],
)
def test_what_it_refuses(options, words):
    with pytest.raises(ValueError, match=words):
        Attention(width=D, **options)
