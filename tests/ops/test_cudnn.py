"""cuDNN's LSTM: the packing of weights and lengths against JAX's own reference on any device, the real one on a GPU."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import close
from jax.experimental import rnn

from seqjax.mixers.lstm import LSTM
from seqjax.ops import scan
from seqjax.ops._say import say

B, L, D, N = 4, 6, 5, 3
LENGTHS = np.array([6, 3, 0, 1])


def arguments():
    draw = lambda key, *shape: jax.random.normal(jax.random.key(key), shape) * 0.7
    state = (draw(3, B, N), draw(4, B, N))
    return draw(0, B, L, D), draw(1, D, 4 * N), draw(2, N, 4 * N), draw(5, 4 * N), state


MASKS = {
    "none": None,
    "padded": np.arange(L)[None] < LENGTHS[:, None],
    "holes": np.array([[1, 0, 1, 1, 0, 1]] * B, bool),
}


def values_and_gradients(backend, mask_BL):
    def loss(args):
        x, kernel, recurrent, bias, state = args
        zeros = jax.tree.map(jnp.zeros_like, state)
        y, last = scan.lstm(x, kernel, recurrent, bias, state, zeros, mask_BL, backend=backend)
        return jnp.sum(y**2) + sum(jnp.sum(jnp.sin(s)) for s in last), (y, last)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(arguments())


@pytest.fixture
def as_if_on_a_gpu(monkeypatch):
    """JAX's reference in the place of cuDNN: the same arguments, no GPU."""
    calls = []

    def reference(x, h, c, weights, lengths, *sizes):
        calls.append(sizes)
        parts = rnn.unpack_lstm_weights(weights, *sizes[:3], sizes[4])
        return rnn.lstm_ref(x, h, c, *parts, lengths, *sizes)

    monkeypatch.setattr(rnn, "lstm", reference)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    return calls


@pytest.mark.parametrize("mask", MASKS)
def test_weights_lengths_and_states_arrive(as_if_on_a_gpu, mask):
    got = values_and_gradients("cudnn", MASKS[mask])
    assert as_if_on_a_gpu
    close(got, values_and_gradients("scan", MASKS[mask]))


@pytest.mark.gpu
@pytest.mark.parametrize("mask", MASKS)
def test_parity_on_a_gpu(mask):
    close(values_and_gradients("cudnn", MASKS[mask]), values_and_gradients("scan", MASKS[mask]))


def test_auto_chooses_by_what_stands_in_the_way_and_says_so_once(as_if_on_a_gpu, caplog):
    say.cache_clear()
    x, *rest = arguments()
    state = rest[-1]
    reset_BL = jnp.zeros((B, L), bool)
    with caplog.at_level(logging.INFO, "seqjax"):
        for _ in range(2):
            scan.lstm(x, *rest, state)
            scan.lstm(x.astype(jnp.bfloat16), *rest, state)
            scan.lstm(x, *rest, state, None, reset_BL)
    assert len(as_if_on_a_gpu) == 2
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3 and "backend cudnn" in said[0]
    assert "float32 only, got bfloat16" in said[1] and "does not support reset_BL" in said[2]
    with pytest.raises(
        ValueError, match=r"backend='cudnn' cannot compute this LSTM: it does not support reset_BL.*Use 'auto'"
    ):
        scan.lstm(x, *rest, state, None, reset_BL, backend="cudnn")


def test_forced_where_it_cannot_serve_it_refuses():
    with pytest.raises(ValueError, match="computes the plain LSTM only, without peepholes, zoneout"):
        LSTM(width=4, backend="cudnn", peepholes=True, zoneout=0.1)
    if jax.default_backend() != "gpu":
        module = LSTM(width=4, backend="cudnn")
        with pytest.raises(ValueError, match="needs an NVIDIA GPU, this is cpu"):
            module.init(jax.random.key(0), jnp.zeros((1, 2, 4)))
