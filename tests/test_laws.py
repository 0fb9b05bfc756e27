"""The laws: what every mixer, and every causal model built of mixers, must hold. Values and gradients.

`subjects` says who must hold them, `ways` how they are run; what needs no numbers is in `test_contract`. A law compares
two ways to run a subject, "in chunks" and "apart", say, on rows of all layouts at once. All laws share a few compiled
programs, of which each subject may have `BUDGET`.
"""

import functools

import jax
import numpy as np
import programs
import pytest
from gradients import call, close, pull, zeros
from subjects import CACHED, CONTEXT, DAILY, FIRST, READERS, SUBJECTS, D, L, S, V
from ways import (
    BOTH,
    LAYOUT,
    MASK,
    RESET,
    B,
    agree,
    apply,
    begin,
    chunks,
    each,
    evaluate,
    like,
    of,
    only,
    steps,
    wanted_of,
    whole,
)

from seqjax.models import seq2seq

pytestmark = pytest.mark.usefixtures("compile_once")

BUDGET = 8  # programs: init, begin, bare, all layouts, two lengths of chunks, steps, low precision
READING = 2  # more of what reads a second sequence, for the laws of that


@pytest.fixture(scope="module", params=each(SUBJECTS, DAILY))
def subject(request):
    return of(request.param)


def test_padding_is_nothing_and_a_reset_is_a_fresh_start(subject):
    agree(subject, whole(subject))


@pytest.mark.parametrize("sizes", [(2, 4), (4, 2), (2, 2, 2)], ids=str)
def test_chunks_with_state_are_the_whole(subject, sizes):
    agree(subject, chunks(subject, sizes))


def test_steps_are_the_whole(subject):
    agree(subject, steps(subject))


def test_steps_without_mask_or_reset_are_the_whole(subject):
    (_, y), _ = pull(begin, subject.module, subject.params, subject.x)
    close(y, subject(subject.params, subject.x)[0])


def test_rows_of_a_state_can_be_gathered(subject):
    """In any order, some of them twice, as beam search does: each row goes on as if the others were not there."""
    (begun, _), rows = subject.begin(subject.params), np.random.default_rng(8).integers(0, B, B)
    read = lambda state, part, rows: subject(subject.params, *(
        a if a is state else a[rows][:, part] for a in (subject.x, state, MASK, RESET)))  # fmt: skip
    every, first, second = np.arange(B), np.s_[:2], np.s_[2:4]
    _, state = read(begun, first, every)
    wanted = read(state, second, every)
    gather = functools.partial(jax.tree.map, lambda a: a[rows])
    close(read(gather(state), second, rows), gather(wanted))


@pytest.mark.parametrize("way", [whole, functools.partial(chunks, sizes=(2, 4))], ids=["whole", "chunks"])
def test_content_under_the_mask_changes_nothing_and_gets_no_gradient(subject, way):
    x = subject.x.copy()
    x[~MASK] = np.resize([np.nan, np.inf, -1e30] if subject.real else [-1, V, 10**6], x[~MASK].shape)
    y, gradients = evaluate(way(subject), subject.params, x)
    close((y, gradients), evaluate(way(subject), subject.params, subject.x))
    assert not np.any(y[~MASK])
    if subject.real:
        assert not np.any(gradients[1][~MASK])


def test_nothing_depends_on_what_comes_later(subject):
    (before, _), two = subject.begin(subject.params), np.ones((B, 2), bool)
    _, after = subject(subject.params, subject.x[:, :2], before, two, ~two)
    moves = any(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (before, after)), strict=True))
    (y, _), back = subject.pull(subject.params, subject.x)
    influence_LS = [np.zeros((L, L))]
    for s in range(L):
        x = subject.x.copy()
        x[:, s] = (x[:, s] + 1) % V
        influence_LS[0][:, s] = np.abs(subject(subject.params, x)[0] - y).max((0, 2))
    if subject.real:
        influence_LS.append(np.zeros((L, L)))
        for t in range(L):
            c = np.zeros_like(y)
            c[:, t] = y[:, t] + 1
            influence_LS[1][t] = np.abs(back((c, None))[1]).max((0, 2))
    for one_LS in influence_LS:
        assert not np.any(np.triu(one_LS, 1)), "the future leaks"
        assert np.all(np.diag(one_LS)), "a token does not see itself"
        if moves:
            later = getattr(subject.module, "dilation", 1)  # the first token after it that may look at it
            assert np.all(np.tril(one_LS, -1).any(axis=0)[:-later]), "a token is forgotten at once"
        else:
            assert not np.any(np.tril(one_LS, -1)), "a token is seen through a state that it has not moved"


def test_gradients_are_slopes(subject):
    """Of hand-written backward passes, too: <gradient, v> is the slope in a random direction v."""
    way, h = whole(subject), 2e-3
    draw = np.random.default_rng(6)  # a direction in which no relu bends within h
    at = (subject.params, subject.x) if subject.real else (subject.params,)
    v = jax.tree.map(lambda a: draw.normal(size=a.shape).astype(a.dtype), at)
    away = lambda h: way(*(*jax.tree.map(lambda a, d: a + h * d, at, v), subject.x)[:2])[0]
    y, back = way(subject.params, subject.x)
    c = np.random.default_rng(3).normal(size=y.shape).astype(y.dtype)
    c[: -len(BOTH)] = 0
    slope = np.vdot((away(h) - away(-h)) / (2 * h), c)
    along = sum(map(np.vdot, jax.tree.leaves(back(c)[: len(at)]), jax.tree.leaves(v)))
    np.testing.assert_allclose(along, slope, rtol=0.01, atol=0.02)


LOW = {"bfloat16": 0.1, "float16": 0.02}  # how near


def low(module, params, xs):
    """The output in each dtype; the gradient of bfloat16 alone."""
    run = lambda dtype, params: apply(module.clone(dtype=dtype), params, xs[dtype], None, MASK, RESET)[0]
    return {"bfloat16": run("bfloat16", params), "float16": run("float16", jax.lax.stop_gradient(params))}


@only(SUBJECTS, FIRST)  # the others take the same paths in other dtypes
def test_low_precision_is_near_and_keeps_its_dtype(subject):
    xs = {dtype: subject.x.astype(jax.numpy.dtype(dtype)) if subject.real else subject.x for dtype in LOW}
    y, back = pull(low, subject.module, subject.params, xs)
    wanted, slopes = evaluate(whole(subject), subject.params, subject.x)
    for dtype, tolerance in LOW.items():
        assert y[dtype].dtype == (dtype if subject.real else "float32")  # logits are float32
        close(y[dtype], wanted, tolerance)
    c = np.random.default_rng(3).normal(size=wanted.shape).astype(y["bfloat16"].dtype)
    by_params, by_x = back({"bfloat16": c, "float16": zeros(y["float16"])})
    close((by_params, by_x["bfloat16"])[: len(slopes)], slopes, LOW["bfloat16"])
    assert like(by_params) == like(subject.params)
    assert not subject.real or like(by_x["bfloat16"]) == like(xs["bfloat16"])


@only(CACHED, DAILY)
def test_a_full_cache_is_never_silent(subject):
    """NaN from the first token that finds no room to the end of its document, and no further; zero where masked."""
    (wanted, _), (state, _) = subject(subject.params, subject.x), subject.begin(subject.params)
    rows = np.resize(["xxxxxxxxxxRxxxxx", "xxxxxxxxxRRxxxxx", "xxxxxxxxRxRxxxxx", "xxxxxxxxx.Rxxxxx"], B)
    letters = np.array([list(row) for row in rows])
    # Tokens of the same places as in their document: what follows the last reset is seen in full.
    x, count_B = np.concatenate([subject.x, subject.x[:, :4], subject.x], axis=1), np.zeros(B, int)
    for start, end in ((0, 4), (4, 6), (6, 10), (10, 12), (12, 16)):
        reset, mask = letters[:, start:end] == "R", letters[:, start:end] != "."
        y, state = subject(subject.params, x[:, start:end], state, mask, reset)
        assert not np.any(y[~mask])
        for t in range(end - start):
            count_B = np.where(reset[:, t], 1, count_B + mask[:, t])
            full_B = (count_B > CONTEXT) & mask[:, t]
            np.testing.assert_array_equal(np.isnan(y[:, t]).all(axis=1), full_B)
            np.testing.assert_array_equal(np.isnan(y[:, t]).any(axis=1), full_B)
        if start >= 10:
            close(y, wanted[:, start - 10 : end - 10])


# ---- The laws of what reads a second sequence.


# All rows that hold something hold two.
SECOND = np.isin(np.array([list(row) for row in np.resize([".xx.", "xx..", "x..x", "..xx", "...."], B)]), "x")
HOLDS = SECOND.any(axis=1)


def read(module, params, second, second_mask, x, mask, reset):
    """The output, of parameters and the second sequence."""
    params, inner = {"params": params["params"]["inner"]}, module.make()
    state = inner.apply(params, second, second_mask, method="prefill")
    return apply(inner, params, x, state, mask, reset)[0]


def reading(subject):
    """The way to run a subject of which x is the second sequence, with its mask."""

    def way(params, second):
        y, back = pull(read, subject.module, params, second, SECOND, subject.x, MASK, RESET)
        return y, lambda c: back(c)[:2]

    return way


def seconds(subject):
    """B second sequences."""
    draw = np.random.default_rng(6)
    if issubclass(subject.module.make.func, seq2seq.Model):
        return draw.integers(0, V, (B, S), np.int32)
    return draw.normal(size=(B, S, D)).astype("float32")


@only(READERS, DAILY)
def test_what_is_masked_in_a_second_sequence_is_not_there(subject):
    """Row by row the same as without it, values and gradients; what stands there gets none."""
    second = seconds(subject)
    real = second.dtype == "float32"
    noise, nothing = second.copy(), second.copy()
    noise[~SECOND], nothing[~SECOND] = np.nan if real else 10**6, 0
    y, gradients = evaluate(reading(subject), subject.params, noise)
    assert all(np.all(np.isfinite(a)) for a in jax.tree.leaves((y, gradients)))
    close((y, gradients), evaluate(reading(subject), subject.params, nothing))
    if real:
        assert not np.any(gradients[1][~SECOND])
    alone = second[SECOND].reshape(HOLDS.sum(), 2, *second.shape[2:])
    flags = (a[HOLDS] for a in (subject.x, MASK, RESET))
    close(call(read, subject.module, subject.params, alone, None, *flags), y[HOLDS])


@only(READERS, DAILY)
def test_each_row_reads_all_of_its_own_second_sequence(subject):
    second, somebody_B = seconds(subject), MASK.any(axis=1)
    y, _ = reading(subject)(subject.params, second)
    for row, place in np.ndindex(5, S):  # each of SECOND, of rows that are packed and padded
        row -= 5
        other = second.copy()
        other[row, place] = (other[row, place] + 1) % V
        moved_B = np.any(reading(subject)(subject.params, other)[0] != y, axis=(1, 2))
        np.testing.assert_array_equal(moved_B, (np.arange(B) == B + row) & SECOND[row, place] & somebody_B)


# ---- What they cost.


def test_a_subject_compiles_few_programs(subject, request):
    """All laws above together: a new one shares them, or is a law of some subjects only."""
    name = request.node.callspec.params["subject"]
    assert programs.subjects[request.node.location[0], name] <= BUDGET + READING * (name in READERS)


@pytest.mark.parametrize("name", each(["gru", "attention-2", "stack(gru)"]))
def test_without_jit_nothing_changes(name):
    """Nor do parameters, where it is `step` that makes them."""
    subject = of(name)
    y, _ = apply(subject.module, subject.params, subject.x, None, None, RESET)
    plain = np.array([letters.count(".") + letters.count("r") == 0 for letters in LAYOUT])
    close(y[plain], wanted_of(subject)[0][plain])
    first = lambda module, x: module.step(x, module.init_state(B))
    by_step = jax.jit(functools.partial(subject.module.init, jax.random.key(1), method=first))(subject.x[:, 0])
    jax.tree.map(np.testing.assert_array_equal, by_step, subject.initial)
