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


@jax.jit
def places(mask_BL, reset_BL, start_B):
    return masks.segments((3, 9), mask_BL, reset_BL), masks.positions((3, 9), mask_BL, reset_BL, start_B)


@pytest.mark.parametrize("draw", range(20))
def test_positions_and_segments(draw):
    mask_BL, reset_BL = RNG.random((2, 3, 9)) > 0.3
    reset_BL &= RNG.random((3, 9)) > 0.5
    start_B = RNG.integers(0, 5, 3)
    position, segment = by_loop(mask_BL, reset_BL, start_B)
    found, got = places(mask_BL, reset_BL, start_B)
    np.testing.assert_array_equal(found, segment)
    # What a masked token has is nobody's business but the last one's: the next chunk goes on from there.
    real = mask_BL | (np.arange(9) == 8)[None]
    np.testing.assert_array_equal(np.where(real, got, 0), np.where(real, position, 0))


def test_without_masks_positions_count_and_there_is_one_document():
    np.testing.assert_array_equal(masks.positions((2, 4)), [[0, 1, 2, 3]] * 2)
    np.testing.assert_array_equal(masks.segments((2, 4)), np.zeros((2, 4)))


def test_who_is_visible():
    position_q, position_k = RNG.integers(0, 4, (2, 3)), RNG.integers(0, 4, (2, 5))
    segment_q, segment_k = RNG.integers(0, 2, (2, 3)), RNG.integers(0, 2, (2, 5))
    real = RNG.random((2, 5)) > 0.4
    wanted = np.zeros((2, 3, 5), bool)
    for b, t, s in np.ndindex(2, 3, 5):
        wanted[b, t, s] = position_k[b, s] <= position_q[b, t] and segment_k[b, s] == segment_q[b, t]
    queries, keys = masks.Places(position_q, segment_q), masks.Places(position_k, segment_k)
    look = lambda keys: masks.visible(queries, keys, 3, 5, masks.Pattern(causal=True))
    np.testing.assert_array_equal(look(keys), wanted)
    np.testing.assert_array_equal(look(keys._replace(mask_BL=real)), wanted & real[:, None])


SIGHTS = {
    "all": masks.Pattern(),
    "causal": masks.Pattern(causal=True),
    "window": masks.Pattern(causal=True, window=3),
    "window on both sides": masks.Pattern(window=3),
    "dilated": masks.Pattern(causal=True, window=3, dilation=4),
    "dilated for ever": masks.Pattern(dilation=3),
    "prefix": masks.Pattern(causal=True, prefix=5),
    "prefix and window": masks.Pattern(causal=True, window=2, prefix=3),
    "blocks": masks.Pattern(blocks=masks.BlockPattern(4, 1, 1, 2, 3)),
    "blocks, causal": masks.Pattern(causal=True, blocks=masks.BlockPattern(3, 0, 0, 1)),
    "blocks, none random": masks.Pattern(blocks=masks.BlockPattern(2, 1, 2, 0)),
}


@pytest.mark.parametrize("name", SIGHTS)
def test_sights(name):
    """Pair by pair from the words; and what a range of places may see holds what any of them sees."""
    pattern, n, sizes = SIGHTS[name], 40, (1, 5, 8)

    @jax.jit
    def ways(place):
        def may(size):
            low, high = place[::size], place[size - 1 :: size]
            return pattern.may(low[:, None], high[:, None], low[None], high[None], size)

        sees = pattern.sees(place[:, None], place[None]) & jnp.ones((n, n), bool)
        return pattern.blocks.drawn(place) if pattern.blocks else [], sees, [may(size) for size in sizes]

    drawn, sees, ranges = jax.device_get(ways(np.arange(n)))
    drawn = np.array(drawn).reshape(-1, n)
    wanted = np.zeros((n, n), bool)
    for q, k in np.ndindex(n, n):
        fine = (q >= k or not pattern.causal) and (q - k) % pattern.dilation == 0
        fine &= pattern.window is None or abs(q - k) <= (pattern.window - 1) * pattern.dilation
        if pattern.blocks is not None:
            size, near, everywhere, *_ = pattern.blocks
            i, j = q // size, k // size
            one, other = drawn[:, i], drawn[:, j]
            fine &= abs(i - j) <= near or min(i, j) < everywhere or j in one or i in other
        wanted[q, k] = fine or k < pattern.prefix
    np.testing.assert_array_equal(sees, wanted)
    for size, may in zip(sizes, ranges, strict=True):
        met = wanted.reshape(n // size, size, n // size, size).any(axis=(1, 3))
        may = np.broadcast_to(may, met.shape)
        assert not np.any(met & ~may)
        if size == 1 and pattern.dilation == 1:
            np.testing.assert_array_equal(may, met)


def test_random_blocks_lie_further_back_and_differ():
    blocks = masks.BlockPattern(size=4, local_blocks=1, global_blocks=2, random_blocks=3)
    draw = lambda blocks: np.stack(jax.device_get(jax.jit(blocks.drawn)(np.arange(300))), axis=1)
    drawn = draw(blocks)
    assert np.all(drawn[:4] == -1) and np.all(drawn[4:] >= 2)
    assert np.all(drawn[4:] < np.arange(4, 300)[:, None] - 1)
    share = drawn[4:] / (np.arange(4, 300)[:, None] - 3)
    np.testing.assert_allclose(np.histogram(share, 4, (0, 1))[0] / share.size, 0.25, atol=0.05)
    assert np.any(drawn != draw(blocks._replace(seed=1)))


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
