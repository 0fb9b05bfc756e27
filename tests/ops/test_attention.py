"""Attention by every backend against a loop in numpy: values, and gradients against those of the reference."""

import functools
import importlib.util
import logging

import cudnn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import close

from seqjax import masks
from seqjax.ops import _backends, _blocks, _blockwise, _nvidia, _turns, attention, positions
from seqjax.ops._say import say

RNG = np.random.default_rng(0)
B, L, H, G, K = 3, 40, 4, 2, 8
BLOCK = 16  # three blocks, the last one filled up


def draw(*shape):
    return RNG.normal(size=shape) * 0.7


def operands(S=L, heads=G):
    return [draw(*shape).astype("float32") for shape in ((B, L, H, K), (B, S, heads, K), (B, S, heads, K))]


@functools.partial(jax.jit, static_argnums=0)
def places_of(shape, *flags):
    return masks.positions(shape, *flags), masks.segments(shape, *flags)


def packed(S=L, rows=B):
    """Documents, holes, a row without a token; keys are those of the queries and S - L older ones."""
    real = RNG.random((rows, S)) > 0.3
    real[-1] = False
    reset = RNG.random((rows, S)) > 0.9
    keys = masks.Places(*jax.device_get(places_of((rows, S), real, reset)), real)
    return dict(queries=masks.Places(*(a[:, S - L :] for a in keys)), keys=keys)


def wanted_of(q, k, v, queries, keys, scale=None, soft_cap=None, sinks_H=None, allowed_BLS=None, relative=None, **look):
    """From the equations, float64; which places see each other is tests/test_masks.py's to say."""
    q, k, v = (np.asarray(a, float) for a in (q, k, v))
    S, R = k.shape[1], H // k.shape[2]
    filled = jax.jit(lambda queries, keys: (queries.filled(L), keys.filled(S)))
    (pq, sq), (pk, sk) = jax.device_get(filled(queries, keys))
    mq, mk = (
        np.ones((1, n), bool) if x.mask_BL is None else np.asarray(x.mask_BL) for x, n in ((queries, L), (keys, S))
    )
    sees = jax.jit(masks.Pattern(**look).sees)(pq[:, :, None], pk[:, None, :]) if look else True
    sees = np.broadcast_to(sees, (max(len(pq), len(pk)), L, S))
    slope, table = (None, None) if relative is None else (None if a is None else np.asarray(a) for a in relative)
    y = np.zeros(q.shape)
    for b, t, h in np.ndindex(B, L, H):
        of, at = (lambda a, b=b: a[b % len(a)]), (lambda a, i, b=b: a[b % len(a), i])
        may = True if allowed_BLS is None else at(allowed_BLS, t)
        seen = np.flatnonzero((at(sq, t) == of(sk)) & at(sees, t) & at(mq, t) & of(mk) & may)
        if not seen.size:
            continue
        score = k[b, seen, h // R] @ q[b, t, h] * (K**-0.5 if scale is None else scale)
        back = at(pq, t) - at(pk, seen)
        if slope is not None:
            score -= slope[h] * np.abs(back)
        if table is not None:
            N = table.shape[1]
            score += table[h, np.clip(back if look.get("causal") else back + N // 2, 0, N - 1)]
        weights = np.exp(score if soft_cap is None else soft_cap * np.tanh(score / soft_cap))
        y[b, t, h] = weights @ v[b, seen, h // R] / (weights.sum() + (0 if sinks_H is None else np.exp(sinks_H[h])))
    return y


SINKS = jnp.array([-1.0, 0.0, 0.5, 2.0])
TABLE = jnp.asarray(draw(H, 11), jnp.float32)
CASES = {
    "all see all": dict(),
    "causal": dict(causal=True),
    "scaled": dict(causal=True, scale=0.7),
    "window of one": dict(causal=True, window=1),
    "window": dict(causal=True, window=18),
    "packed": dict(causal=True, **packed()),
    "packed, of numbers below zero": dict(
        causal=True, **{k: t._replace(segment_BL=t.segment_BL - 2) for k, t in packed().items()}
    ),
    "packed alike": dict(causal=True, **packed(rows=1)),
    "packed, both directions": packed(),
    "window, packed": dict(causal=True, window=5, **packed()),
    "everything": dict(causal=True, window=18, soft_cap=0.5, sinks_H=SINKS, **packed()),
    "soft cap": dict(soft_cap=0.3),
    "sinks": dict(sinks_H=SINKS),
    "sinks, packed": dict(causal=True, sinks_H=SINKS, **packed()),
    "cache": dict(causal=True, **packed(56)),
    "window, cache": dict(causal=True, window=9, **packed(56)),
    "window on both sides": dict(window=7),
    "window on both sides, packed": dict(window=3, **packed()),
    "dilated": dict(causal=True, window=4, dilation=5),
    "dilated for ever, packed": dict(dilation=3, **packed()),
    "prefix": dict(causal=True, prefix=19),
    "prefix, packed": dict(causal=True, prefix=3, **packed()),
    "blocks": dict(blocks=masks.BlockPattern(4, 1, 1, 1)),
    "blocks, causal": dict(causal=True, blocks=masks.BlockPattern(2, 1, 1, 2)),
    "blocks, packed": dict(causal=True, blocks=masks.BlockPattern(3, 0, 0, 1), **packed()),
    "slopes": dict(causal=True, relative=positions.Relative(slope_H=positions.alibi(H))),
    "slopes, both directions": dict(relative=positions.Relative(slope_H=positions.alibi(H)), **packed()),
    "table": dict(causal=True, relative=positions.Relative(table_HN=TABLE)),
    "table, both directions": dict(relative=positions.Relative(table_HN=TABLE)),
    "slopes, table and cap": dict(
        causal=True, soft_cap=0.5, relative=positions.Relative(positions.alibi(H), TABLE), **packed(56)
    ),
}
SPECIAL = {"sinks_H", "soft_cap", "relative"}
BLOCKWISE = functools.partial(attention.attend, backend="blockwise")
REFERENCE = functools.partial(attention.attend, backend="reference")


def length(case):
    mask = case["keys"].mask_BL if "keys" in case else None
    return L if mask is None else mask.shape[1]


SIZES = {"blocks": (BLOCK, 1024), "one block": (64, 1024), "turns": (BLOCK, 1)}


@pytest.fixture(params=SIZES)
def block(request, monkeypatch):
    size, far = SIZES[request.param]
    monkeypatch.setattr(_backends, "CPU_BLOCK", size)
    monkeypatch.setattr(_backends, "BLOCK", size)
    monkeypatch.setattr(_backends, "FAR", far)


def slopes(attend, **options):
    """(q, k, v, learned) -> values, and gradients of <y, c> for a fixed random c; one program."""

    def f(q, k, v, learned):
        y = attend(q, k, v, **learned, **options)
        return jnp.vdot(y, np.random.default_rng(0).normal(size=q.shape).astype("float32")), y

    def both(q, k, v, learned={}):  # noqa: B006
        (_, y), grads = jax.value_and_grad(f, (0, 1, 2, 3), has_aux=True)(q, k, v, learned)
        return y, jax.tree.leaves(grads)

    return jax.jit(both)


def both(attend, q, k, v, sinks_H=None, relative=None, **options):
    learned = {k: a for k, a in (("sinks_H", sinks_H), ("relative", relative)) if a is not None}
    return slopes(attend, **options)(q, k, v, learned)


@functools.cache
def operands_of(case):
    return operands(length(CASES[case]))


@functools.cache
def reference_of(case):
    """Values and gradients, of which the values are those of the loop."""
    options = {"queries": masks.Places(), "keys": masks.Places()} | CASES[case]
    y, grads = jax.device_get(both(REFERENCE, *operands_of(case), **options))
    np.testing.assert_allclose(y, wanted_of(*operands_of(case), **options), rtol=2e-5, atol=2e-6)
    return y, grads


def each(case, size):
    """What is packed takes all paths, in blocks of any size; the rest in one block, or by turns, is for CI."""
    slow = size != "blocks" and "keys" not in CASES[case]
    return pytest.param(case, size, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize(("case", "block"), [each(case, size) for case in CASES for size in SIZES], indirect=["block"])
def test_blocks_are_the_loop_and_the_reference(case, block):
    close(both(BLOCKWISE, *operands_of(case), **CASES[case]), reference_of(case))


@pytest.mark.parametrize("case", CASES)
def test_the_library_computes_the_same_where_it_serves(case):
    library = functools.partial(attention.attend, backend="xla")
    if SPECIAL & set(CASES[case]):
        with pytest.raises(
            ValueError, match=r"'xla' cannot compute .*: it does not support (sinks_H|soft_cap|a relative bias)"
        ):
            library(*operands_of(case), **CASES[case])
    else:
        close(both(library, *operands_of(case), **CASES[case]), reference_of(case))


@pytest.mark.parametrize("case", [c for c in CASES if not {"sinks_H", "relative"} & set(CASES[c])])
def test_tokamax_computes_the_same(case):
    pytest.importorskip("tokamax")
    tokamax = functools.partial(attention.attend, backend="tokamax")
    close(both(tokamax, *operands_of(case), **CASES[case]), reference_of(case))


@pytest.mark.skipif(importlib.util.find_spec("tokamax") is not None, reason="tokamax is installed")
def test_tokamax_is_asked_for_by_its_extra():
    with pytest.raises(ValueError, match=r"tokamax is not installed: pip install 'seqjax\[tokamax\]'"):
        attention.attend(*operands(), backend="tokamax")


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("count", [1, 3])
def test_decoding_is_attention_to_cache_and_tokens(heads, count):
    """With as few products as there are queries of a group, and with one for all of them."""
    q, k, v = operands(24, heads)
    q, W = q[:, :count], 24 - count
    real = (RNG.random((B, 24)) > 0.3) & (np.arange(B) < B - 1)[:, None]
    keys = masks.Places(np.arange(24, dtype="int32")[None] - 3, None, real)
    queries = masks.Places(np.arange(20, 20 + count, dtype="int32")[None])
    look = dict(causal=True, window=15, soft_cap=2.0, sinks_H=SINKS, queries=queries, keys=keys, scale=0.4)
    cached = tuple(np.moveaxis(a[:, :W], 1, 3) for a in (k, v))
    ways = lambda q, k, v, cached: (
        attention.decode(q, cached, (k[:, W:], v[:, W:]), **look),
        attention.attend(q, k, v, backend="reference", **look),
    )
    close(*jax.jit(ways)(q, k, v, cached))


@functools.cache
def shared(heads):
    """Operands, and what the reference gives of them; its values are those of repeated heads."""
    q, k, v = operands(heads=heads)
    reference = slopes(REFERENCE, causal=True)
    y, grads = jax.device_get(reference(q, k, v))
    close(y, reference(q, *(np.repeat(a, H // heads, axis=2) for a in (k, v)))[0])
    return (q, k, v), (y, grads)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_key_heads_serve_query_heads_in_order(heads, block):
    arguments, wanted = shared(heads)
    close(both(BLOCKWISE, *arguments, causal=True), wanted)


def test_any_mask():
    q, k, v = operands(24)
    allowed = RNG.random((B, L, 24)) > 0.5
    allowed[0, 2] = False
    wanted = wanted_of(q, k, v, masks.Places(), masks.Places(), causal=True, allowed_BLS=np.asarray(allowed))
    for backend in ("auto", "reference", "xla"):
        y, grads = both(functools.partial(attention.attend, backend=backend), q, k, v, allowed_BLS=allowed, causal=True)
        np.testing.assert_allclose(y, wanted, rtol=2e-5, atol=2e-6)
        assert not np.any(grads[0][0, 2])
    triangle = np.tri(L, 24, dtype=bool)[None]
    close(*jax.jit(lambda *a: (attention.attend(*a, triangle), attention.attend(*a, causal=True)))(q, k, v))


def test_a_bias_is_added_to_scores():
    """softmax(a + log b) is softmax(a) weighted by b, for every head by its own b."""
    q, k, v = operands(heads=H)
    b = RNG.random((1, H, L, L)) + 0.5
    bias = np.log(b).astype("float32")
    got = jax.jit(lambda q, k, v, bias: attention.attend(q, k, v, causal=True, bias_BHLS=bias))(q, k, v, bias)
    scores = np.exp(np.einsum("blhk,bshk->bhls", q, k) * K**-0.5) * b * np.tri(L)
    wanted = np.einsum("bhls,bshk->blhk", scores / scores.sum(-1, keepdims=True), v)
    np.testing.assert_allclose(got, wanted, atol=2e-5)
    with pytest.raises(ValueError, match="blockwise' cannot compute this attention: it cannot add bias_BHLS"):
        attention.attend(q, k, v, bias_BHLS=jnp.zeros((1, H, L, L)), backend="blockwise")


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "hard", "sparsemax", "entmax"])
def test_weights_of_every_kind_are_those_that_values_get(kind):
    """`attend`, `weigh` of its scores and the sum over `weights` are one; what is not allowed has no weight."""
    q, k, v = operands(heads=H)
    look = dict(causal=True, window=9, soft_cap=2.0, weights=kind, **packed())
    real = look["keys"].mask_BL

    @jax.jit
    def ways(q, k, v):
        score = jnp.einsum("blhk,bshk->bhls", masks.fill(q, real), masks.fill(k, real)) * K**-0.5
        weight, filled = attention.weights(score, **look), masks.fill(v, real)
        summed, weighed = jnp.einsum("bhls,bshk->blhk", weight, filled), attention.weigh(score, filled, **look)
        return attention.Look(**look).allowed(L, L), weight, attention.attend(q, k, v, **look), summed, weighed

    allowed, weight, y, *others = jax.device_get(ways(q, k, v))
    assert weight.shape == (B, H, L, L) and not np.any(weight * ~allowed[:, None])
    for other in others:
        close(y, other)
    if kind in ("softmax", "hard", "sparsemax", "entmax"):
        some = allowed.any(axis=-1)
        np.testing.assert_allclose(np.moveaxis(weight.sum(axis=-1), 1, 2)[some], 1, rtol=1e-5)


# Only one of them cuts into blocks.
BACKENDS = [("reference", "blocks"), ("xla", "blocks"), *(("blockwise", size) for size in SIZES)]
every_backend = pytest.mark.parametrize(("backend", "block"), BACKENDS, indirect=["block"])


@functools.cache
def rounded(dtype):
    """Operands in a dtype, the look, and what the reference gives of them in float32."""
    options = dict(causal=True, **packed())
    low = [a.astype(jnp.dtype(dtype)) for a in operands()]
    return low, options, jax.device_get(both(REFERENCE, *(a.astype("float32") for a in low), **options))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@every_backend
def test_low_precision_keeps_its_dtype_and_sums_in_float32(backend, dtype, block):
    low, options, wanted = rounded(dtype)
    if (backend, dtype, jax.default_backend()) == ("xla", "float16", "cpu"):
        with pytest.raises(ValueError, match="cannot compute this attention: its float16 products"):
            attention.attend(*low, backend="xla")
        return
    y, grads = both(functools.partial(attention.attend, backend=backend), *low, **options)
    assert {a.dtype for a in (y, *grads)} == {jnp.dtype(dtype)}
    close((y, grads), wanted, tolerance=0.03)


@every_backend
def test_nobody_sees_what_is_masked_and_who_sees_nothing_is_zero(backend, block):
    q, k, v = operands()
    options = dict(causal=True, **packed())
    real = options["keys"].mask_BL
    spoil = lambda a: np.where(real[..., None, None], a, np.float32(np.nan))
    attend = slopes(functools.partial(attention.attend, backend=backend, **options))
    y, grads = jax.device_get(attend(spoil(q), spoil(k), spoil(v)))
    close((y, grads), attend(q, k, v))
    assert not any(np.any(a[~real]) for a in (y, *grads)) and np.any(y[real])


def test_large_scores_are_no_nan(block):
    q, k, v = operands()
    y, grads = both(BLOCKWISE, q * 1e4, k, v, causal=True, **packed())
    assert all(np.isfinite(a).all() for a in (y, *grads))


@pytest.mark.parametrize("most", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("case", ["prefix, packed", "sinks", "slopes, table and cap"])
def test_any_number_of_heads_may_take_a_turn(case, most):
    """Some groups of a row, or all groups of some rows."""
    options = {"queries": masks.Places(), "keys": masks.Places()} | CASES[case]
    look, (q, k, v) = attention.Look(**options), operands(length(options))
    given = (q, k, v, look.queries, look.keys, look.sinks_H, look.relative)
    rules = _blockwise.Rules(look.pattern, look.soft_cap, share=1.0)
    way = functools.partial(_blockwise.attend, rules=rules, block=BLOCK)
    close(*jax.jit(lambda given: (_turns.attend(way, *given, most), way(*given)))(given))


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="heads take turns on a CPU")
def test_heads_take_turns_where_queries_see_many_keys():
    heads = lambda L, count: jax.ShapeDtypeStruct((2, L, count, 8), jnp.float32)
    q, k = heads(_backends.FAR, 4), heads(_backends.FAR, 4)
    plan = lambda q=q, k=k, cores=1, **look: _backends.plan(q, k, attention.Look(causal=True, **look), cores)
    assert plan() == (128, 1) and plan(cores=2) == (512, 1) and plan(cores=16) == (512, 4)
    assert plan(k=heads(_backends.FAR, 1), cores=2) == (256, 1)
    far = dict(q=heads(2 * _backends.FAR, 4), k=heads(2 * _backends.FAR, 4))
    assert plan(**far) == (256, 1) and plan(**far, cores=2) == (512, 1)
    assert plan(**far, queries=masks.Places(segment_BL=jnp.zeros((2, 2 * _backends.FAR), jnp.int32))) == (128, 1)
    assert plan(q=far["q"], k=heads(2 * _backends.FAR, 1)) == (128, 1)
    for few in (dict(q=heads(_backends.FAR - 1, 4)), dict(window=_backends.FAR - 1), dict(blocks=masks.BlockPattern())):
        assert plan(**few, cores=2) == (128, None)


def test_scores_are_never_all_there():
    """What the compiled program needs beside inputs and outputs grows with L, not with its square."""
    zeros = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)

    def temporary(L, **options):
        f = lambda q, k, v: jnp.sum(attention.attend(q, k, v, causal=True, **options) ** 2)
        program = jax.jit(jax.grad(f, (0, 1, 2))).lower(*(zeros(1, L, 1, 8),) * 3).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert temporary(8192, backend="blockwise") < 3 * temporary(4096, backend="blockwise") < 4096**2
    assert temporary(4096) == temporary(4096, backend="blockwise")


CALLS = {
    "all": {},
    "causal": dict(causal=True),
    "window": dict(causal=True, window=17),
    "window on both sides": dict(window=9),
    "prefix": dict(causal=True, prefix=20),
    "blocks": dict(blocks=masks.BlockPattern(8, 0, 1, 1)),
    "packed": packed(),
    "window, packed": dict(causal=True, window=5, **packed()),
}


@pytest.mark.parametrize("call", CALLS)
def test_blocks_that_cannot_meet_are_skipped(call):
    """Each block of queries and of keys has a list: no other block holds what it may see, and those on it do."""
    look = attention.Look(**CALLS[call])
    found = lambda: (_blocks.meet(look.pattern, _blocks.marks(look.queries, look.keys, L, L, 8, 8)), look.allowed(L, L))
    meet, allowed = jax.device_get(jax.jit(found)())
    seen_nm = np.broadcast_to(allowed, (B, L, L)).reshape(-1, 5, 8, 5, 8).any(axis=(0, 2, 4))
    for seen, order, count in ((seen_nm, *meet[:2]), (seen_nm.T, *meet[2:])):
        for row, listed, n in zip(seen, order, count, strict=True):
            assert not row[listed[n:]].any()
            if "packed" not in call:  # there, blocks may overlap without a pair of tokens that meets
                assert row[listed[:n]].all()


def test_auto_says_its_choice_once(caplog):
    say.cache_clear()
    q, k, v = (jnp.zeros((1, 512, 1, 8)),) * 3
    with caplog.at_level(logging.DEBUG, "seqjax"):
        for _ in range(2):
            jax.eval_shape(lambda q: attention.attend(q, k, v, causal=True), q)
            jax.eval_shape(lambda q: attention.attend(q[:, :1], k, v), q)
            jax.eval_shape(lambda q: attention.attend(q, k, v, jnp.ones((1, 512, 512), bool)), q)
    said = [r.getMessage() for r in caplog.records]
    if jax.default_backend() == "cpu":
        assert len(said) == 3 and "backend blockwise (long" in said[0] and "reference (short" in said[1]
        assert "does not support allowed_BLS" in said[2]


def test_auto_takes_cudnn_only_where_it_computes_exactly_this(monkeypatch):
    chosen = []
    cudnn.stand_in(monkeypatch)
    monkeypatch.setattr(_backends, "library", lambda backend, q, *rest: chosen.append(backend) or q)
    q, k, v = (jnp.zeros((1, 16, 4, 8), jnp.bfloat16),) * 3
    attend = lambda *qkv, **options: jax.eval_shape(functools.partial(attention.attend, **options), *qkv)
    attend(q, k, v, causal=True)
    attend(q, k, v, causal=True, window=3)
    assert chosen == ["cudnn", "cudnn"]
    odd = jnp.zeros((1, 16, 4, 6), jnp.bfloat16)
    for call in (
        dict(window=3),  # it looks ahead
        dict(soft_cap=1.0),
        dict(sinks_H=jnp.zeros(4)),
        dict(keys=masks.Places(mask_BL=jnp.ones((1, 16), bool))),
    ):
        attend(q, k, v, **call)
    attend(odd, odd, odd)
    attend(*(a.astype("float32") for a in (q, k, v)))
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((8,), ("tensor",))):
        attend(q, k, v, causal=True)  # four heads over eight devices
    assert len(chosen) == 2


@pytest.mark.parametrize(
    ("S", "look"),
    [(15, {}), (16, {}), (16, {"causal": True}), (16, {"causal": True, "window": 3}), (16, {"window": 3})],
)
def test_what_auto_takes_on_a_gpu_serves_values_and_gradients(monkeypatch, look, S):
    """The code of JAX around cuDNN refuses some lengths and windows, some of them in training only."""
    q, k, v = (jnp.asarray(draw(1, S, H, K), jnp.bfloat16) for _ in range(3))
    wanted = both(REFERENCE, *(a.astype("float32") for a in (q, k, v)), **look)
    cudnn.stand_in(monkeypatch)
    attend = functools.partial(attention.attend, **look)
    program = str(jax.make_jaxpr(jax.grad(lambda *qkv: jnp.sum(attend(*qkv).astype("float32"))))(q, k, v))
    assert ("dot_product_attention_bwd" in program) == (S % 2 == 0 and look != {"window": 3})
    close(both(attention.attend, q, k, v, **look), wanted, tolerance=0.05)


def test_what_does_not_fit_is_refused():
    q, k, v = operands()
    ones = jnp.ones((1, L, L), bool)
    for words, arguments, options in (
        ("v \\[3, 39, 2, 8\\], wanted", (q, k, v[:, :-1]), {}),
        ("wanted \\[3, S, G, 8\\] like q", (q, k[..., :4], v[..., :4]), {}),
        ("3 key heads do not divide 4", (q, *(jnp.concatenate([a, a[:, :, :1]], axis=2) for a in (k, v))), {}),
        ("window=0, .*at least 1", (q, k, v), dict(causal=True, window=0)),
        ("dilation=0: both must be at least 1", (q, k, v), dict(dilation=0)),
        ("sinks_H is \\[3\\], wanted one number per head, \\[4\\]", (q, k, v), dict(sinks_H=SINKS[:3])),
        (
            "allowed_BLS is float32\\[1, 40, 40\\], wanted bool\\[3, 40, 40\\], or \\[1, 40, 40\\]",
            (q, k, v, ones * 1.0),
            {},
        ),
        ("allowed_BLS is bool\\[1, 40, 39\\]", (q, k, v, ones[:, :, 1:]), {}),
        (
            "slope_H is \\[3\\], wanted one slope per head, \\[4\\]",
            (q, k, v),
            dict(relative=positions.Relative(SINKS[:3])),
        ),
        ("backend='fast'; choose from auto, reference", (q, k, v), dict(backend="fast")),
        ("weights='max'; choose from softmax, sigmoid", (q, k, v), dict(weights="max")),
        (
            "sinks_H needs weights='softmax', got weights='sigmoid': remove one",
            (q, k, v),
            dict(weights="sigmoid", sinks_H=SINKS),
        ),
        ("table_HN is \\[4, 4\\]", (q, k, v), dict(relative=positions.Relative(None, TABLE[:, :4]))),
        (
            "backend='blockwise' cannot compute .*weights='softmax' only, not 'entmax'",
            (q, k, v),
            dict(backend="blockwise", weights="entmax"),
        ),
        (
            "backend='blockwise' cannot compute this attention: .*allowed_BLS",
            (q, k, v, ones),
            dict(backend="blockwise"),
        ),
    ):
        with pytest.raises(ValueError, match=words):
            attention.attend(*arguments, **options)
    if jax.default_backend() != "gpu":
        with pytest.raises(ValueError, match="backend='cudnn' cannot compute this attention: it needs an NVIDIA GPU"):
            attention.attend(q, k, v, backend="cudnn")


@pytest.mark.gpu
@pytest.mark.parametrize("case", ["everything", "window, cache", "blocks, packed", "slopes, table and cap"])
def test_blocks_on_an_accelerator(case, monkeypatch):
    monkeypatch.setattr(_backends, "BLOCK", BLOCK)
    close(both(BLOCKWISE, *operands_of(case), **CASES[case]), reference_of(case), tolerance=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("case", ["all see all", "causal", "window", "window on both sides", "packed", "cache"])
def test_parity_of_cudnn_on_a_gpu(case):
    """The first three by its own masks, as "auto" takes it; the others by a mask of L x S, which a user may ask for."""
    if reason := _nvidia.hindrance("8.0"):
        pytest.skip(reason)
    low = [a.astype(jnp.bfloat16) for a in operands_of(case)]
    got = both(functools.partial(attention.attend, backend="cudnn"), *low, **CASES[case])
    close(got, both(REFERENCE, *(a.astype("float32") for a in low), **CASES[case]), tolerance=0.05)


@pytest.mark.parametrize(
    "look",
    [
        {"causal": True},
        {"window": 5},
        {"causal": True, "window": 5, "dilation": 3},
        {"causal": True, "prefix": 9},
        {"causal": True, "blocks": masks.BlockPattern(4, random_blocks=1)},
        {},
    ],
)
def test_the_share_of_blocks_that_meet_is_known_beforehand(look):
    pattern, lengths = attention.Look(**look).pattern, [(40, 40), (13, 40), (1, 33), (40, 13)]

    def meet(queries, keys):
        places = masks.Places(jnp.arange(queries)[None] + max(keys - queries, 0))
        sizes = (_blocks.size(n, BLOCK) for n in (queries, keys))
        return _blocks.meet(pattern, _blocks.marks(places, masks.Places(), queries, keys, *sizes))

    for pair, met in zip(lengths, jax.jit(lambda: [meet(*two) for two in lengths])(), strict=True):
        wanted = float(np.mean(met.count_n)) / len(met.count_m)
        assert _blocks.share(pattern, *pair, BLOCK) == pytest.approx(wanted), pair
