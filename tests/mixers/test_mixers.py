"""What the laws do not say about mixers: how they start, and what they refuse."""

import jax
import numpy as np
import pytest
from gradients import init, run

from seqjax import lookup
from seqjax.mixers.attention import Attention
from seqjax.mixers.gru import GRU
from seqjax.mixers.lstm import LSTM
from seqjax.mixers.rnn import Elman
from seqjax.types import fields_of

pytestmark = pytest.mark.usefixtures("compile_once")

RECURRENT = {"elman": (Elman, 1), "gru": (GRU, 3), "lstm": (LSTM, 4)}


def params(module, D=8):
    read = lambda module, x: module(x, module.prefill(x) if module.memory else None)
    return init(module, np.zeros((1, 2, D), "float32"), method=read)["params"]


@pytest.mark.parametrize("name", lookup.names("seqjax.mixers"))
def test_every_mixer_needs_nothing_but_a_width_and_has_float32_parameters(name):
    module = lookup.find(name, "seqjax.mixers", "Mixer")(width=8, dtype="bfloat16")
    assert {str(a.dtype) for a in jax.tree.leaves(params(module))} == {"float32"}


@pytest.mark.parametrize("name", lookup.names("seqjax.mixers"))
def test_every_mixer_lists_all_wrong_options_at_once(name):
    with pytest.raises(
        ValueError, match=r"width: got 0, wanted an int of at least 1; dtype: got 'int8', wanted one of"
    ):
        lookup.find(name, "seqjax.mixers", "Mixer")(width=0, dtype="int8")


HEADED = [n for n in lookup.names("seqjax.mixers") if "heads" in fields_of(lookup.find(n, "seqjax.mixers", "Mixer"))]


@pytest.mark.parametrize("name", HEADED)
def test_heads_divide_the_width(name):
    with pytest.raises(ValueError, match=r"mixer\.heads=3 does not divide model\.width=8: choose a divisor"):
        lookup.find(name, "seqjax.mixers", "Mixer")(width=8, heads=3)


@pytest.mark.parametrize(("kind", "gates"), RECURRENT.values(), ids=RECURRENT)
def test_each_gate_starts_orthogonal_and_different(kind, gates):
    blocks = np.split(params(kind(width=8))["recurrent"], gates, axis=1)
    for block in blocks:
        np.testing.assert_allclose(block @ block.T, np.eye(8), atol=1e-5)
    assert all(np.any(blocks[0] != other) for other in blocks[1:])


def test_the_forget_gate_starts_open():
    i, f, g, o = np.split(params(LSTM(width=8, forget_bias=2.0))["bias"], 4)
    np.testing.assert_array_equal(f, 2.0)
    assert not np.any([i, g, o])


def test_an_untrained_state_is_zero_and_an_untrained_cache_is_empty():
    assert not any(np.any(a) for a in jax.tree.leaves(LSTM(width=8).init_state(2)))
    cache = Attention(width=8, max_length=3).init_state(2)
    assert cache.k_BHKW.shape == (2, 4, 2, 3) and not np.any(cache.count_B)
    np.testing.assert_array_equal(cache.position_BW, -1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(heads=3), "heads=3 does not divide model.width=8"),
        (dict(max_length=0), "max_length: got 0, wanted an int of at least 1"),
        (dict(positions="absolute"), "wanted one of 'rotary', 'learned', 'sinusoidal', 'alibi', 'relative', 'none'"),
        (dict(positions="learned", window=3), "'learned' end at mixer.max_length, but mixer.window allows longer"),
        (dict(positions="alibi", rope_scaling="ntk"), "rope_scaling='ntk' scales rotary positions, not 'alibi'"),
        (
            dict(positions="relative", max_distance=16),
            "max_distance=16 is not above half of mixer.num_buckets=32: choose at least 17",
        ),
        (dict(rope_factor=0.5), "rope_factor: got 0.5, wanted a float of at least 1"),
        (dict(rope_theta=0.0), "rope_theta: got 0.0, wanted a float above 0"),
    ],
)
def test_attention_refuses(options, words):
    with pytest.raises(ValueError, match=words):
        Attention(width=8, **options)


def test_rotary_heads_are_of_even_width():
    with pytest.raises(ValueError, match=r"'rotary' .* pairs .* head width is 1, an odd number: choose another"):
        Attention(width=8, heads=8)
    assert params(Attention(width=8, heads=8, positions="none"))


def test_without_positions_the_order_of_the_past_does_not_matter():
    module = Attention(width=8, positions="none")
    x = np.random.default_rng(1).normal(size=(1, 4, 8)).astype("float32")
    last = lambda x: run(module, {"params": params(module)}, x)[0][:, -1]
    np.testing.assert_allclose(last(x), last(x[:, [2, 0, 1, 3]]), atol=1e-6)
