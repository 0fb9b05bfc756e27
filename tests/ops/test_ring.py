"""Sequences cut over devices are the same sequences: values, gradients, and what travels.

Run as a script in a process that simulates eight devices, it computes all cases with and without a mesh and prints how
far apart they are.
"""

import functools
import json
import math
import os
import re

import built
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decay import Decay
from hlo import collectives, eight_devices
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from seqjax import lookup, masks, spec
from seqjax.mixers.attention import Attention
from seqjax.models.stack import Stack
from seqjax.ops import (
    _backends,
    attention,
    conv,
    linear,
    linear_attention,
    losses,
    matrix_state,
    mlstm,
    positions,
    ring,
    state_space,
)

RNG = np.random.default_rng(0)
B, H, G, K, N = 6, 4, 2, 4, 5
AXES = ("data", "fsdp", "sequence", "tensor")
MESHES = {"sequence=4": (2, 1, 4, 1), "tensor=2": (2, 1, 2, 2), "fsdp=2": (1, 2, 2, 2), "sequence=8": (1, 1, 8, 1)}


def draw(*shape, complex_: bool = False):
    x = np.float32(RNG.normal(size=shape))
    return np.complex64(0.5 * x + 0.5j * RNG.normal(size=shape)) if complex_ else x


def flags(L, rows=B):
    """A mask with holes and a row without a token, and resets."""
    mask, reset = RNG.random((rows, L)) > 0.3, RNG.random((rows, L)) > 0.9
    mask[-1] = False
    return mask, reset


def packed(L, rows=B):
    mask, reset = flags(L, rows)
    tokens = masks.Places(*(f((rows, L), mask, reset) for f in (masks.positions, masks.segments)), mask)
    return dict(queries=tokens, keys=tokens)


def of_attention(L=64, block=8, dtype=np.float32, **look):
    """f(q, k, v, sinks and relative bias), and arguments; two blocks per chunk of four devices."""
    learned = {k: look.pop(k) for k in ("sinks_H", "relative") if k in look}

    def f(q, k, v, learned):
        _backends.CPU_BLOCK = block
        return attention.attend(*(a.astype(dtype) for a in (q, k, v)), **learned, **look)

    return f, (draw(B, L, H, K), draw(B, L, G, K), draw(B, L, G, K), learned)


def of_diagonal(method="auto", cut=True, complex_=False):
    L = 24
    options = dict(zip(("mask_BL", "reset_BL"), flags(L), strict=True)) if cut else {}
    arrays = (draw(*shape, complex_=complex_) for shape in ((B, L, N), (B, L, N), (B, N)))
    return functools.partial(linear.diagonal, method=method, **options), tuple(arrays)


def of_linear_attention(kernel="product", cut=True):
    L, E = 24, 3
    options = dict(zip(("mask_BL", "reset_BL"), flags(L), strict=True)) if cut else {}
    F = E if kernel == "product" else 1 + E + E * (E + 1) // 2
    q, k, v, *state = (draw(*shape) for shape in ((B, L, H, E),) * 2 + ((B, L, H, K), (B, H, F, K), (B, H, F)))
    return functools.partial(linear_attention.attend, kernel=kernel, chunk=4, **options), (
        *((abs(q), abs(k)) if kernel == "product" else (q, k)),
        *(v, (state[0], abs(state[1]))),
    )


def of_state_space(kind):
    L, E = 24, 3
    mask_BL, reset_BL = flags(L)
    x, dt, b, c, h = (draw(*shape) for shape in ((B, L, N),) * 2 + ((B, L, E),) * 2 + ((B, E, N),))
    if kind == "fixed":
        a, c, h = (draw(*shape, complex_=True) for shape in ((E, N), (E, N), (B, E, N)))
        f = lambda x, a, c, h: state_space.fixed(x, a, c, h, mask_BL, reset_BL, chunk=4)
        return f, (x, a / np.maximum(np.abs(a), 1), c, h)
    f = lambda *arrays: state_space.selective(*arrays, mask_BL, reset_BL, chunk=4)
    return f, (x, abs(dt), -abs(draw(E, N)), b, c, h)


def of_matrix_state(width=K, cut=True):
    L = 24
    options = dict(zip(("mask_BL", "reset_BL"), flags(L), strict=True)) if cut else {}
    q, k, v, g, S = (draw(*shape) for shape in ((B, L, H, K),) * 3 + ((B, L, H, width), (B, H, K, K)))

    def f(q, k, v, g, S):
        return matrix_state.run(matrix_state.Tokens(q, g, k, v), S, chunk=4, **options)

    return f, (q, k, v, -abs(g), S)


def of_mlstm(cut=True):
    """Gates so large that the maximum moves, and a state whose m is below that of the start. All n q are above 0: near
    0, where y = C q / max(|n q|, exp(-m)) has its pole, rounding alone tells one device from several."""
    L = 24
    options = dict(zip(("mask_BL", "reset_BL"), flags(L), strict=True)) if cut else {}
    shapes = (*((B, L, H, K),) * 3, *((B, L, H),) * 2, (B, H, K, K), (B, H, K), (B, H))
    q, k, v, i, f, C, n, m = (draw(*shape) for shape in shapes)
    return functools.partial(mlstm.run, chunk=4, **options), (abs(q), abs(k), v, 5 * i - 5, -abs(f), (C, abs(n), m - 3))


def of_convolution(op, dilation=1, cut=True):
    """A cache that is longer than a chunk."""
    L, W = 8, 4
    options = dict(zip(("mask_BL", "reset_BL"), flags(L), strict=True)) if cut else {}
    shape = (W, N) if op is conv.depthwise else (W, N, K)
    arrays = (draw(B, L, N), draw(*shape), draw(B, (W - 1) * dilation, N))
    return functools.partial(op, dilation=dilation, **options), arrays


LOGITS = built.logits(7)


def of_model(L=16, head=LOGITS, **options):
    """The summed loss of a model in training, as tasks make it, and its parameters; documents packed."""
    module = Stack(inputs=spec.tokens(7), head=head, width=8, **options)
    tokens = RNG.integers(7, size=(B, L + 1))
    mask, reset = flags(L + 1)
    side = lambda module, x_BL: {name: jnp.float32(x_BL % 3)[..., None] / 2 for name in module.side}
    init = lambda x_BL: module.init(jax.random.key(0), x_BL, **side(module, x_BL))["params"]
    shapes = jax.eval_shape(init, tokens[:, :-1])
    params = jax.tree.map(lambda p: 0.4 * draw(*p.shape), shapes)

    def f(params, tokens, mask, reset):
        x_BL, flags = tokens[:, :-1], dict(mask_BL=mask[:, :-1], reset_BL=reset[:, :-1])
        logits, _ = module.apply({"params": params}, x_BL, **flags, **side(module, x_BL))
        if not head.func.stepwise:
            return losses.cross_entropy(logits, tokens[:, -1])
        return jnp.where(mask[:, 1:], losses.cross_entropy(logits, tokens[:, 1:]), 0)

    return f, (params, tokens, mask, reset)


mixer = lambda name, **options: functools.partial(lookup.find(name, "seqjax.mixers", "Mixer"), **options)
HYBRID = (mixer("attention", heads=2, kv_heads=1, max_length=16), mixer("rg_lru", heads=2), mixer("linear_attention"))
LEARNED = positions.Relative(positions.alibi(H), jnp.asarray(draw(H, 11)))
SINKS = jnp.array([-1.0, 0.0, 0.5, 2.0])
part = functools.partial
ATTENTION = part(of_attention, causal=True, sinks_H=SINKS, relative=LEARNED, **packed(64))
MODEL = part(of_model, mixer=HYBRID, layers=3)
GROUPS = {
    "few": {
        "causal": part(of_attention, causal=True),
        "window, packed": part(of_attention, causal=True, window=9, soft_cap=0.5, sinks_H=SINKS, **packed(64)),
        "diagonal, complex": part(of_diagonal, complex_=True),
        "diagonal, associative": part(of_diagonal, "associative"),
        "linear attention": of_linear_attention,
        "convolution": part(of_convolution, conv.depthwise),
        "matrix state": of_matrix_state,
        "mlstm": of_mlstm,
        "a hybrid, tensor=2": MODEL,
    },
    "attention": {
        "packed": ATTENTION,
        "packed, tensor=2": ATTENTION,
        "packed, fsdp=2": ATTENTION,
        "packed alike, sequence=8": part(of_attention, causal=True, **packed(64, 1)),
        "packed, a block per chunk": part(of_attention, block=64, causal=True, **packed(64)),
        "an odd chunk": part(of_attention, 60, causal=True),
        "both directions": part(of_attention, relative=LEARNED),
        "both directions, packed": part(of_attention, relative=LEARNED, **packed(64)),
        "a window on both sides": part(of_attention, window=9),
        "dilated, packed": part(of_attention, dilation=3, **packed(64)),
        "dilated, in a window": part(of_attention, causal=True, window=4, dilation=5),
        "prefix": part(of_attention, causal=True, prefix=19),
        "prefix, packed": part(of_attention, causal=True, prefix=3, **packed(64)),
        "blocks, packed": part(of_attention, causal=True, blocks=masks.BlockPattern(3, 0, 0, 1), **packed(64)),
        "bfloat16": part(of_attention, causal=True, dtype=jnp.bfloat16),
    },
    "recurrences": {
        "diagonal, whole documents": part(of_diagonal, cut=False),
        "diagonal, tensor=2": part(of_diagonal, "scan"),
        "linear attention, taylor": part(of_linear_attention, "taylor"),
        "linear attention, tensor=2": part(of_linear_attention, "taylor", cut=False),
        "selective": part(of_state_space, "selective"),
        "fixed": part(of_state_space, "fixed"),
        "mamba and s4d": part(
            of_model, mixer=(mixer("mamba", state_size=2), mixer("s4d", state_size=2)), tie_embeddings=True
        ),
        "qrnn and s5": part(of_model, mixer=(mixer("qrnn"), mixer("s5")), tie_embeddings=True),
        "matrix state, one decay per head": part(of_matrix_state, 1, cut=False),
        "matrix states": part(of_model, mixer=(mixer("retnet"), mixer("mamba2", state_size=3), mixer("gla")), layers=3),
        "mlstm, whole documents": part(of_mlstm, cut=False),
        "mlstm and min_gru": part(of_model, mixer=(mixer("mlstm"), mixer("min_gru")), tie_embeddings=True),
        "convolution, whole documents": part(of_convolution, conv.full, cut=False),
        "convolution, dilated": part(of_convolution, conv.full, 2),
        "lru and min_gru": part(of_model, mixer=(mixer("lru"), mixer("min_gru")), tie_embeddings=True),
        "gates and convolutions": part(
            of_model,
            mixer=(mixer("tcn", levels=2), mixer("gated", mixer=mixer("short_conv", mixer=mixer("lru")))),
        ),
        "bidirectional": part(
            of_model,
            head=built.classes(7, pool="attention"),
            mixer=mixer("bidirectional", mixer=mixer("lru")),
            layers=1,
        ),
        **{
            f"pool {pool}": part(of_model, head=built.classes(7, pool=pool), mixer=mixer("min_gru"), layers=1)
            for pool in ("mean", "last")
        },
    },
    "models": {
        "a hybrid": MODEL,
        "a hybrid, fsdp=2": MODEL,
        "sparse attention": part(of_model, mixer=mixer("sparse_attention", heads=2, block_size=2, max_length=16)),
        "a side input": part(of_model, mixer=Decay, layers=2),
        "stacked, fsdp=2": part(of_model, mixer=mixer("stacked", mixer=HYBRID[:2], residual=True)),
        "positions, sequence=8": part(
            of_model, mixer=tuple(mixer("attention", positions=p, max_length=16) for p in ("learned", "sinusoidal"))
        ),
    },
}


def both(f, *arguments):
    """Values, and gradients of <y, c> for a random c by all floats."""
    free = jax.tree.map(lambda a: a if jnp.issubdtype(jnp.result_type(a), jnp.inexact) else None, arguments)

    def g(free):
        y = f(*jax.tree.map(lambda a, b: b if a is None else a, free, arguments, is_leaf=lambda a: a is None))
        keys = jax.random.split(jax.random.key(0), 3)
        real = lambda a, key: jnp.sum(a.real * jax.random.normal(key, a.shape)) + jnp.sum(a.imag)
        return sum(real(a, key) for a, key in zip(jax.tree.leaves(y), keys, strict=False)), y

    (_, y), slopes = jax.value_and_grad(g, has_aux=True)(free)
    return y, slopes


def placed(mesh, arguments):
    """Rows over data and fsdp; what comes without rows, as weights, along its last axis over tensor."""

    def place(a):
        rows = np.ndim(a) > 1 and a.shape[0] == B
        tensor = not rows and np.ndim(a) > 1 and a.shape[-1] % mesh.shape["tensor"] == 0
        last = ("tensor",) if tensor else ()
        spec = (("data", "fsdp"),) if rows else (*(None,) * (np.ndim(a) - 1), *last)
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree.map(place, arguments)


def apart(a, b):
    a, b = (np.asarray(x, np.complex64) for x in (a, b))
    return float(np.max(np.abs(a - b), initial=0) / max(1, np.max(np.abs(b), initial=0)))


def compiled(f, arguments, name):
    """f for a mesh; what went in as numpy stays a value that a program is called with."""
    shape = MESHES.get(name.split(", ")[-1], MESHES["sequence=4"])
    devices = np.array(jax.devices()[: math.prod(shape)]).reshape(shape)
    mesh = jax.sharding.Mesh(devices, AXES, axis_types=(AxisType.Auto,) * len(AXES))
    places = placed(mesh, arguments)
    with jax.set_mesh(mesh):
        return jax.jit(f, in_shardings=places).lower(*arguments).compile(), places


def main(group: str):
    """Name -> how far values and gradients are from those of one device, and where devices meet."""
    found = {}
    for name, make in GROUPS[group].items():
        f, arguments = make()
        wanted = jax.device_get(jax.jit(part(both, f))(*arguments))
        program, places = compiled(part(both, f), arguments, name)
        got = jax.device_get(program(*jax.device_put(arguments, places)))
        distances = jax.tree.leaves(jax.tree.map(apart, got, wanted))
        found[name] = collectives(program.as_text()) | {"apart": float(np.max(distances))}  # NaN stays NaN
        found[name]["leaves"] = len(jax.tree.leaves(arguments))
    if group == "few":
        # What stands in the first chunk is NaN; the two last ones do not see it, and must not compute with it.
        f, (q, k, v, learned) = of_attention(32, causal=True, window=9)
        v[:, :8] = np.nan
        program, places = compiled(f, (q, k, v, learned), "")
        y = np.asarray(program(*jax.device_put((q, k, v, learned), places)))
        found["finite"] = [bool(np.isfinite(y[:, i : i + 8]).all()) for i in range(0, 32, 8)]
    if group == "attention":
        found["bytes"] = [memory(n) for n in (1, 8)]
    print(json.dumps(found))


def memory(n: int) -> int:
    """What a gradient of attention to 8192 tokens needs on each of n devices, beside operands and results."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:n]), ("sequence",), axis_types=(AxisType.Auto,))
    where = NamedSharding(mesh, PartitionSpec(None, "sequence"))
    f = jax.grad(lambda q, k, v: attention.attend(q, k, v, causal=True).sum(), (0, 1, 2))
    with jax.set_mesh(mesh):
        program = jax.jit(f, in_shardings=where, out_shardings=where)
        program = program.lower(*[jax.ShapeDtypeStruct((1, 8192, 2, 8), jnp.float32)] * 3).compile()
    return program.memory_analysis().temp_size_in_bytes


@functools.cache
def found(group: str) -> dict:
    """What `main` finds."""
    return eight_devices(__file__, GROUP=group)


def of(*groups):
    """Parameters `group` and `name`: all cases of some groups."""
    return pytest.mark.parametrize(("group", "name"), [(group, name) for group in groups for name in GROUPS[group]])


@of("few")
def test_a_sequence_over_devices_is_the_sequence(group, name):
    assert found(group)[name]["apart"] < 1e-5


@pytest.mark.slow
@of("attention", "recurrences", "models")
def test_so_it_is_with_all_options(group, name):
    assert found(group)[name]["apart"] < (2e-2 if name == "bfloat16" else 1e-5)


def test_keys_go_round_one_chunk_at_a_time():
    """Nobody gathers a sequence, forwards or back."""
    one = found("few")["causal"]
    assert set(one["inside"]) == set(one["all"]) == {"collective-permute"}


def test_recurrences_exchange_states_and_never_inside_a_loop():
    for name in ("diagonal, associative", "linear attention", "mlstm"):
        one = found("few")[name]
        assert one["loops"] and not one["inside"] and "all-gather" in one["all"], name


@pytest.mark.slow
@of("recurrences")
def test_so_do_all_that_can_be_cut_and_weights_are_summed_once(group, name):
    one = found(group)[name]
    assert one["loops"] and not one["inside"] and one["all"].count("all-reduce") <= one["leaves"]


def test_what_a_device_does_not_see_it_does_not_compute():
    assert found("few")["finite"] == [False, False, True, True]


@pytest.mark.slow
def test_memory_is_shared():
    one, eight = found("attention")["bytes"]
    assert eight < one / 3


def abstract(devices: int, axis: str):
    return AbstractMesh((devices,), (axis,), axis_types=(AxisType.Auto,))


def program(f, *shapes, devices: int | None = None):
    """What JAX makes of a gradient of f, in a mesh with an axis `sequence` of so many devices or with another one."""
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    slope = jax.grad(lambda *a: sum(map(jnp.sum, jax.tree.leaves(f(*a)))), tuple(range(len(shapes))))
    axis = ring.AXIS if devices else "data"
    with jax.sharding.use_abstract_mesh(abstract(devices or 1, axis)):
        return re.sub(f"0x[0-9a-f]+|{axis}", "", str(jax.make_jaxpr(slope)(*arguments)))


@pytest.mark.parametrize(
    ("f", "shapes"),
    [
        (part(attention.attend, causal=True, backend="blockwise"), [(B, 16, H, K)] * 3),
        (linear.diagonal, [(B, 16, N)] * 2 + [(B, N)]),
        (conv.depthwise, [(B, 16, N), (3, N), (B, 2, N)]),
        (
            lambda q, k, v, S, z: linear_attention.attend(q, k, v, (S, z)),
            [(B, 16, H, K)] * 3 + [(B, H, K, K), (B, H, K)],
        ),
    ],
    ids=["attention", "diagonal", "convolution", "linear attention"],
)
def test_an_axis_of_one_device_changes_nothing(f, shapes):
    alone, one, two = (program(f, *shapes, devices=n) for n in (None, 1, 2))
    assert alone == one and "shard_map" not in one and "shard_map" in two


@pytest.fixture
def over_four():
    with jax.sharding.use_abstract_mesh(abstract(4, ring.AXIS)):
        yield


@pytest.mark.parametrize(
    ("look", "words"),
    [
        (dict(weights="sparsemax"), "weights='softmax' only, not 'sparsemax'"),
        (dict(bias_BHLS=np.zeros((1, H, 16, 16))), "it cannot add bias_BHLS"),
        (dict(allowed_BLS=np.ones((1, 16, 16), bool)), "it does not support allowed_BLS"),
        (dict(backend="xla"), "backend='xla' runs on one device"),
        (dict(backend="reference"), "backend='reference' runs on one device"),
    ],
)
def test_attention_that_cannot_be_cut_says_why(over_four, look, words):
    q = np.zeros((B, 16, H, K))
    with pytest.raises(ValueError, match=rf"ring attention over 4 devices cannot compute this call: .*{words}"):
        attention.attend(q, q, q, **look)


def test_a_length_that_does_not_fit_is_refused(over_four):
    with pytest.raises(ValueError, match=r"10 tokens cannot be split into 4 equal chunks.* axis 'sequence'"):
        jax.eval_shape(linear.diagonal, *[np.zeros((B, 10, N))] * 2, np.zeros((B, N), np.float32))
    assert ring.devices(1) == 1, "a step is never cut"


@pytest.mark.parametrize("options", [dict(score="additive"), dict(score="location", positions="none"), {}])
def test_attention_refuses_scores_and_caches_that_are_not_cut(over_four, options):
    module, x = Attention(width=8, max_length=16, **options), np.zeros((B, 8, 8))
    state = None if options else module.init_state(B)
    with pytest.raises(ValueError, match=r"attention with (mixer.score='|a cache).* cannot be split over devices"):
        jax.eval_shape(module.init, jax.random.key(0), x, state)


CUTTABLE = {"attention", "sparse_attention", "linear_attention"}
CUTTABLE |= {"hgrn", "lru", "min_gru", "min_lstm", "mamba", "qrnn", "rg_lru", "s4d", "s5"}
CUTTABLE |= {"gated", "gated_conv", "parallel", "tcn"}
CUTTABLE |= {"gla", "hgrn2", "mamba2", "mlstm", "retnet"}


@pytest.mark.parametrize("name", lookup.names("seqjax.mixers"))
def test_mixers_say_whether_their_sequences_can_be_cut(name):
    assert mixer(name)(width=8).cuttable == (name in CUTTABLE)


@pytest.mark.parametrize(
    ("made", "cuttable"),
    [
        (mixer("attention", score="additive"), False),
        (mixer("attention", weights="sigmoid"), False),
        (mixer("attention", backend="xla"), False),
        (mixer("attention", backend="blockwise"), True),
        (mixer("stacked", mixer=HYBRID, layers=len(HYBRID)), True),
        (mixer("stacked", mixer=(mixer("lru"), mixer("gru"))), False),
        (mixer("bidirectional", mixer=mixer("lru")), True),
    ],
)
def test_models_can_be_cut_if_all_their_mixers_can(over_four, made, cuttable):
    model = Stack(inputs=spec.tokens(7), head=LOGITS, width=8, mixer=(mixer("min_gru"), made))
    assert model.cuttable == cuttable
    init = part(jax.eval_shape, model.init, jax.random.key(0))
    init(np.zeros((B, 1), int))
    if cuttable:
        init(np.zeros((B, 8), int))
    else:
        with pytest.raises(
            ValueError, match=f"{type(made(width=8)).__name__} with these options needs whole sequences"
        ):
            init(np.zeros((B, 8), int))


if __name__ == "__main__":
    main(os.environ["GROUP"])
