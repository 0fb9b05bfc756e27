"""Attention with all its options from the equations, and a cache that is the same however a prompt is cut.

Run as a script in a process that simulates eight devices, it tells where devices meet in attention by blocks.
"""

import functools
import itertools
import json

import gradients
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import close, init, run
from hlo import collectives, eight_devices

from seqjax.mixers.attention import Attention
from seqjax.ops import _backends, positions

pytestmark = pytest.mark.usefixtures("compile_once")

B, L, D, H, G, K = 2, 11, 16, 4, 2, 4
OPTIONS = dict(kv_heads=G, window=5, qk_norm=True, soft_cap=2.0, sinks=True)


def drawn(module):
    """A module's parameters, none of them where it starts, and an input."""
    params = gradients.drawn(module, jnp.zeros((1, 2, D)))["params"]
    return params, np.random.default_rng(2).normal(size=(B, L, D)).astype("float32")


@pytest.mark.parametrize("gate", ["head", "feature"])
def test_all_options_are_the_equations(gate):
    module = Attention(width=D, output_gate=gate, **OPTIONS)
    params, x = drawn(module)
    y, _ = run(module, {"params": params}, x)
    p = jax.tree.map(lambda a: np.asarray(a, float), params)
    q, k, v = np.split(np.asarray(x, float) @ p["qkv"]["kernel"], [D, D + G * K], axis=-1)
    norm = lambda a, name: a / np.sqrt(np.mean(a**2, axis=-1, keepdims=True) + 1e-6) * p[name]["scale"]
    q, k = norm(q.reshape(B, L, H, K), "norm_q"), norm(k.reshape(B, L, G, K), "norm_k")
    place = jnp.tile(jnp.arange(L), (B, 1))
    q, k = (np.asarray(positions.rotary(jnp.asarray(a), place, positions.frequencies(K)), float) for a in (q, k))
    v, wanted = v.reshape(B, L, G, K), np.zeros((B, L, H, K))
    for b, t, h in np.ndindex(B, L, H):
        seen = slice(max(0, t - 4), t + 1)
        weights = np.exp(2 * np.tanh(k[b, seen, h // 2] @ q[b, t, h] / np.sqrt(K) / 2))
        wanted[b, t, h] = weights @ v[b, seen, h // 2] / (weights.sum() + np.exp(p["sink"][h]))
    gates = 1 / (1 + np.exp(-np.asarray(x, float) @ p["gates"]["kernel"]))
    wanted = (wanted * gates.reshape(B, L, H, -1)).reshape(B, L, D) @ p["out"]["kernel"]
    np.testing.assert_allclose(y, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("options", [dict(max_length=12), OPTIONS], ids=["max_length", "window"])
@pytest.mark.parametrize("sizes", [(11,), (4, 1, 6), (1,) * 11], ids=str)
def test_a_prompt_in_chunks_leaves_the_same_cache(options, sizes):
    """The newest tokens of the newest document, each at its place in the circle."""
    module = Attention(width=D, **options)
    params, x = drawn(module)
    mask, reset = np.ones((B, L), bool), np.zeros((B, L), bool)
    mask[1, [0, 3, 10]], reset[1, 2] = False, True
    call = lambda x, state, mask, reset: run(module, {"params": params}, x, state, mask_BL=mask, reset_BL=reset)
    state, pieces, start = module.init_state(B), [], 0
    for end in itertools.accumulate(sizes):
        y, state = call(x[:, start:end], state, mask[:, start:end], reset[:, start:end])
        pieces.append(y)
        start = end
    fresh, _ = run(module, {"params": params}, x, mask_BL=mask, reset_BL=reset)
    close(np.concatenate(pieces, axis=1), fresh)
    W = module.window or module.max_length
    count = np.array([11, 7])  # the second row: tokens 2, 4 ... 9 of its second document
    np.testing.assert_array_equal(state.count_B, count)
    for b, n in enumerate(count):
        kept = {place % W: place for place in range(max(0, n - W), n)}
        np.testing.assert_array_equal(state.position_BW[b], [kept.get(slot, -1) for slot in range(W)])
    whole = call(x, module.init_state(B), mask, reset)[1]
    filled = (state.position_BW >= 0)[:, None, None]
    close(*(jax.tree.map(lambda a: np.where(filled, a, 0), (s.k_BHKW, s.v_BHKW)) for s in (state, whole)))


def test_a_window_is_never_full():
    assert Attention(width=D, window=3).capacity is None and Attention(width=D, max_length=7).capacity == 7
    state = Attention(width=D, window=3, kv_heads=1).init_state(B)
    assert state.k_BHKW.shape == (B, 1, K, 3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(kv_heads=3), "mixer.kv_heads=3 does not divide mixer.heads=4"),
        (dict(window=0), "window: got 0, wanted an int of at least 1"),
        (dict(soft_cap=0.0), "soft_cap: got 0.0, wanted a float above 0"),
        (dict(output_gate="token"), "wanted one of 'none', 'head', 'feature'"),
        (dict(backend="flash"), "backend: got 'flash', wanted one of 'auto', 'reference'"),
    ],
)
def test_what_it_refuses(options, words):
    with pytest.raises(ValueError, match=words):
        Attention(width=D, **options)


def test_a_backend_that_cannot_serve_says_why():
    module = Attention(width=D, backend="xla", soft_cap=1.0)
    with pytest.raises(
        ValueError, match=r"'xla' cannot compute this attention: it does not support soft_cap\. Use 'auto'"
    ):
        module.init(jax.random.key(0), jnp.zeros((1, 2, D)))


SHARDED = {"plain": dict(sinks=True, max_length=64), "grouped": dict(kv_heads=2, window=9)}


def main():
    """Rows over eight devices, blocks of 16 of 40 tokens: name -> where devices meet, and how far off gradients are."""
    _backends.CPU_BLOCK, _backends.FAR = 16, 1
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    place = lambda *axes: jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
    x = jax.random.normal(jax.random.key(0), (16, 40, D))
    flags = jax.random.uniform(jax.random.key(1), (2, 16, 40)) > 0.3
    found = {}
    for name, options in SHARDED.items():
        module = Attention(width=D, backend="blockwise", **options)
        params = init(module, x)

        def loss(params, x, mask, reset, module=module):
            y, state = module.apply(params, x, module.init_state(16), mask_BL=mask, reset_BL=reset)
            return jnp.sum(y**2) + jnp.sum(state.k_BHKW)

        slope = functools.partial(jax.jit, jax.grad(loss))
        arguments, places = (params, x, *flags), (place(), *(place("data"),) * 3)
        many = slope(in_shardings=places, out_shardings=place()).lower(*arguments).compile()
        apart = lambda a, b: float(np.max(np.abs(a - b)) / max(1, np.max(np.abs(b))))
        pair = jax.device_get((many(*jax.device_put(arguments, places)), slope()(*arguments)))
        found[name] = collectives(many.as_text()) | {"apart": max(jax.tree.leaves(jax.tree.map(apart, *pair)))}
    print(json.dumps(found))


@pytest.fixture(scope="module")
def found():
    return eight_devices(__file__)


@pytest.mark.slow  # a process of its own, which compiles for eight devices
@pytest.mark.parametrize("name", SHARDED)
def test_devices_meet_outside_of_loops_only(found, name):
    """Once for gradients, once for which blocks to skip; rows and heads never travel."""
    one = found[name]
    assert one["loops"] >= 4 and not one["inside"] and one["apart"] < 1e-5
    assert set(one["all"]) == {"all-reduce"} and len(one["all"]) <= 2


if __name__ == "__main__":
    main()
