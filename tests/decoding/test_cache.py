"""The cache of attention: filled in any pieces it is the same, and generating neither compiles anew nor moves it."""

import functools
import logging

import decoders
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from built import logits
from gradients import init, run

from seqjax import spec
from seqjax.decoding.sample import Sample
from seqjax.mixers.attention import Attention
from seqjax.models.stack import Stack
from seqjax.tasks._base import Reads

pytestmark = pytest.mark.usefixtures("compile_once")

B, L, D, MORE = 4, 9, 8, 3
KINDS = {
    "full": {},
    "window": {"window": 4},
    "grouped": {"kv_heads": 2},
    "multi-query window": dict(kv_heads=1, window=3),
}
SPLITS = [(1,) * L, (2, 7), (5, 1, 3), (8, 1)]
RAGGED = np.array(
    [
        [1, 1, 1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 1, 1, 1, 1, 1, 1],  # padded on the left
        [1, 1, 1, 0, 1, 1, 0, 0, 0],  # a hole, and padded on the right
        [0, 0, 0, 0, 0, 0, 0, 0, 0],  # empty
    ],
    bool,
)
each_kind = pytest.mark.parametrize("kind", KINDS)


@functools.cache
def mixer(kind: str, context: int = L + MORE):
    module = Attention(width=D, heads=4, max_length=context, **KINDS[kind])
    return module, init(module, jnp.zeros((1, 1, D)))


def prefilled(kind, x, mask, sizes):
    """What comes out, and the cache, when a prompt is read in chunks of these sizes."""
    state, out, start = mixer(kind)[0].init_state(len(x)), [], 0
    for size in sizes:
        now = slice(start, start + size)
        y, state = run(*mixer(kind), x[:, now], state, mask_BL=mask[:, now])
        out.append(y)
        start += size
    return np.concatenate(out, axis=1), state


@each_kind
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("sizes", SPLITS, ids=str)
def test_chunks_leave_the_same_cache_and_continuation(kind, ragged, sizes):
    x = np.random.default_rng(1).normal(size=(B, L + MORE, D)).astype("float32")
    prompt, mask = x[:, :L], RAGGED if ragged else np.ones((B, L), bool)
    (y, state), (wanted, whole) = prefilled(kind, prompt, mask, sizes), prefilled(kind, prompt, mask, (L,))
    np.testing.assert_allclose(y, wanted, atol=1e-6)
    jax.tree.map(lambda got, held: np.testing.assert_allclose(got, held, rtol=1e-6, atol=1e-6), state, whole)
    np.testing.assert_array_equal(state.count_B, mask.sum(axis=1))

    module, params = mixer(kind)
    step = lambda x_BD, state: run(module, params, x_BD, state, method="step")
    at_once = run(module, params, x, mask_BL=np.concatenate([mask, np.ones((B, MORE), bool)], axis=1))[0]
    for t in range(L, L + MORE):
        (y, state), (wanted, whole) = step(x[:, t], state), step(x[:, t], whole)
        np.testing.assert_allclose(y, wanted, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(y, at_once[:, t], rtol=1e-5, atol=1e-6)


def compilations(caplog, run) -> int:
    """How many programs JAX compiles, or takes from the disk, while `run()` runs."""
    caplog.clear()
    with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):  # the command line turns it down
        jax.block_until_ready(run())
    return sum("Compiling" in record.getMessage() for record in caplog.records)


@each_kind
def test_other_prompts_of_the_same_shape_compile_nothing(kind, caplog):
    attention = functools.partial(Attention, heads=4, max_length=L + MORE, **KINDS[kind])
    model = Stack(inputs=spec.tokens(5), head=logits(5), width=D, layers=1, mixer=attention, expansion=0)
    prompts = np.random.default_rng(0).integers(0, 5, (3, B, L))
    params = jax.jit(model.init)(jax.random.key(1), jnp.asarray(prompts[0]))["params"]
    keys = list(jax.random.split(jax.random.key(2), 3))
    masks = [jnp.asarray(mask) for mask in (RAGGED | (np.arange(L) == 2), np.ones((B, L), bool), RAGGED[::-1])]
    decode = decoders.program(model, Sample(spec=model.inputs, max_length=MORE, top_k=3))
    go_on = lambda i: decode(params, Reads(jnp.asarray(prompts[i]), masks[i]), keys[i])
    assert compilations(caplog, lambda: go_on(0)) > 0
    assert [compilations(caplog, lambda i=i: go_on(i)) for i in (1, 2)] == [0, 0]


@functools.cache
def donating(kind: str, context: int):
    module, params = mixer(kind, context)
    return jax.jit(lambda x_BD, state: module.apply(params, x_BD, state, method="step"), donate_argnums=1)


@each_kind
def test_steps_compile_once_and_write_where_the_cache_is(kind, caplog):
    module, step = mixer(kind)[0], donating(kind, L + MORE)
    state = jax.tree.map(jnp.array, module.init_state(B))
    x_LBD = list(jax.random.normal(jax.random.key(1), (L, B, D)))
    places = [a.unsafe_buffer_pointer() for a in state]
    assert compilations(caplog, lambda: step(x_LBD[0], jax.tree.map(jnp.array, state))) > 0

    def go_on(state):
        for x_BD in x_LBD:
            _, new = step(x_BD, state)
            assert all(a.is_deleted() for a in state)
            state = new
        return state

    assert compilations(caplog, lambda: [places.append(a.unsafe_buffer_pointer()) for a in go_on(state)]) == 0
    assert step._cache_size() == 1
    assert places[: len(state)] == places[len(state) :]


@each_kind
@pytest.mark.parametrize("rows", [1, 2])
def test_a_token_copies_no_cache(kind, rows):
    """One step, and a scan over steps, need a fraction of the cache beside it."""
    size = {"window": 2048} if "window" in KINDS[kind] else {}
    module = Attention(width=64, heads=4, max_length=2048, **KINDS[kind] | size)
    params = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 1, 64)))
    state = jax.eval_shape(lambda: module.init_state(rows))
    step = lambda params, x_BD, state: module.apply(params, x_BD, state, method="step")
    scan = lambda params, x_LBD, state: jax.lax.scan(lambda s, x: step(params, x, s)[::-1], state, x_LBD)
    held = sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(state))
    for program, shape in ((step, (rows, 64)), (scan, (3, rows, 64))):
        compiled = jax.jit(program, donate_argnums=2).lower(params, jax.ShapeDtypeStruct(shape, jnp.float32), state)
        # A copy of k or of v alone would be nearly half of it.
        assert compiled.compile().memory_analysis().temp_size_in_bytes < 0.4 * held
