"""The benchmark of decoding: all contenders compute the same tokens, and what goes on compiling is refused."""

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import decoding
from benchmarks.ready import Decoded

pytestmark = pytest.mark.slow  # hundreds of tokens, each contender in programs of its own

B, S = 2, 300  # the window has gone round


@pytest.fixture(scope="module")
def tokens():
    """What one of the contenders gives, (STEPS, B, D)."""
    found = {}

    def of(name, what, kind):
        if (name, what, kind) not in found:
            built = getattr(decoding, name)(what, kind, "float32", B, S)
            for _ in range(2 if name == "torch" else 0):  # the others were tried twice when they were made
                built.call()
            found[name, what, kind] = np.stack([np.asarray(y) for y in built.call()]), built
        return found[name, what, kind]

    return of


@pytest.mark.parametrize("what", ["scan", "step"])
@pytest.mark.parametrize(
    ("name", "kind"), [("flax", "full"), ("torch", "full"), ("torch", "grouped"), ("torch", "window"), ("ours", "full")]
)
def test_all_decode_the_same_tokens(tokens, name, kind, what):
    if name == "torch":
        pytest.importorskip("torch")
    assert decoding.serves(name, {"kind": kind, "S": S})
    (got, theirs), (wanted, mine) = tokens(name, what, kind), tokens("ours", "scan", kind)
    assert got.shape == (decoding.STEPS, B, decoding.D)
    np.testing.assert_allclose(got, wanted, atol=2e-5)
    slots, heads = (decoding.WINDOW if kind == "window" else S), decoding.KINDS[kind].get("kv_heads", decoding.H)
    cache = 2 * 4 * B * slots * heads * decoding.D // decoding.H
    for built in (mine, theirs):
        assert built.decoded[:2] == (decoding.STEPS, B)
        assert cache <= built.decoded.state_bytes < 1.02 * cache


@pytest.mark.parametrize("name", ["ours", "torch"])
def test_a_call_leaves_the_cache_as_it_found_it(tokens, name):
    if name == "torch":
        pytest.importorskip("torch")
    before, built = tokens(name, "step", "full")
    np.testing.assert_allclose(np.stack([np.asarray(y) for y in built.call()]), before, atol=1e-6)


def test_the_cache_is_that_of_a_prompt():
    """Places of slots and number of tokens are what the mixer itself would have written."""
    for kind in decoding.KINDS:
        mixer, params, state, x_TBD = decoding.attention(kind, "float32", B, S)
        x_BLD = np.tile(np.swapaxes(x_TBD, 0, 1), (1, S // decoding.STEPS, 1))[:, : S - decoding.STEPS]
        _, wanted = mixer.apply(params, x_BLD, mixer.init_state(B))
        np.testing.assert_array_equal(state.position_BW, wanted.position_BW)
        np.testing.assert_array_equal(state.count_B, wanted.count_B)


def test_recurrent_layers_decode():
    built = decoding.ours("step", "gru", "float32", B, 1)
    assert built.decoded == Decoded(decoding.STEPS, B, 4 * B * decoding.D)
    assert {"gru", "lstm", "linear_attention"} <= set(decoding.recurrent())
    assert not {"attention", "bidirectional", "cross_attention"} & set(decoding.recurrent())
    assert not any(decoding.serves(name, {"kind": "gru", "S": 1}) for name in decoding.OPPONENTS)


def test_a_state_that_changes_its_kind_is_refused():
    x_TBD, rewind = jnp.zeros((decoding.STEPS, B, 3)), lambda state: state
    with pytest.raises(ValueError, match="took 2 compilations, wanted one"):
        decoding.decoded(lambda _, x, state: (x, state + 0.5), "step", {}, x_TBD, jnp.zeros(3, jnp.int32), rewind)
    with pytest.raises(ValueError, match="not finite"):
        decoding.decoded(lambda _, x, state: (x / 0, state), "scan", {}, x_TBD, jnp.zeros(3), rewind)
