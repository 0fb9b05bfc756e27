"""Positions and segments against a loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import masks

RNG = np.random.default_rng(0)


def by_loop(mask_BL, reset_BL, start_B):
    position, segment = np.zeros(mask_BL.shape, int), np.zeros(mask_BL.shape, int)
    for b in range(len(mask_BL)):
        count, document = start_B[b], 0
        for t in range(mask_BL.shape[1]):
            if mask_BL[b, t]:
                if reset_BL[b, t]:
                    count, document = 0, document + 1
                count += 1
            position[b, t], segment[b, t] = count - 1, document
    return position, segment


@pytest.mark.parametrize("draw", range(20))
def test_positions_and_segments(draw):
    mask_BL, reset_BL = RNG.random((2, 3, 9)) > 0.3
    reset_BL &= RNG.random((3, 9)) > 0.5
    start_B = RNG.integers(0, 5, 3)
    position, segment = by_loop(mask_BL, reset_BL, start_B)
    np.testing.assert_array_equal(masks.segments((3, 9), jnp.array(mask_BL), jnp.array(reset_BL)), segment)
    got = masks.positions((3, 9), jnp.array(mask_BL), jnp.array(reset_BL), jnp.array(start_B))
    # What a masked token has is nobody's business but the last one's: the next chunk goes on from there.
    real = mask_BL | (np.arange(9) == 8)[None]
    np.testing.assert_array_equal(np.where(real, got, 0), np.where(real, position, 0))


def test_without_masks_positions_count_and_there_is_one_document():
    np.testing.assert_array_equal(masks.positions((2, 4)), [[0, 1, 2, 3]] * 2)
    np.testing.assert_array_equal(masks.segments((2, 4)), np.zeros((2, 4)))


def test_causal():
    position_q, position_k = RNG.integers(0, 4, (2, 3)), RNG.integers(0, 4, (2, 5))
    segment_q, segment_k = RNG.integers(0, 2, (2, 3)), RNG.integers(0, 2, (2, 5))
    real = RNG.random((2, 5)) > 0.4
    wanted = np.zeros((2, 3, 5), bool)
    for b, t, s in np.ndindex(2, 3, 5):
        wanted[b, t, s] = position_k[b, s] <= position_q[b, t] and segment_k[b, s] == segment_q[b, t]
    arguments = [jnp.array(a) for a in (position_q, position_k, segment_q, segment_k)]
    np.testing.assert_array_equal(masks.causal(*arguments), wanted)
    np.testing.assert_array_equal(masks.causal(*arguments, jnp.array(real)), wanted & real[:, None])


def test_from_lengths():
    np.testing.assert_array_equal(masks.from_lengths(jnp.array([0, 2, 3]), 3), [[0, 0, 0], [1, 1, 0], [1, 1, 1]])


def test_fill_blocks_values_and_gradients():
    x, mask = jnp.array([[1.0, jnp.nan]]), jnp.array([[True, False]])
    np.testing.assert_array_equal(masks.fill(x, mask), [[1.0, 0.0]])
    np.testing.assert_array_equal(jax.grad(lambda x: masks.fill(x, mask).sum())(x), [[1.0, 0.0]])


@pytest.mark.parametrize("mask", [jnp.ones((2, 3)), jnp.ones((3, 2), bool), jnp.ones((2,), bool)])
def test_check_names_got_and_wanted(mask):
    with pytest.raises(ValueError, match=r"mask_BL is .* wanted bool\[2, 3\]"):
        masks.check(mask, (2, 3))
