"""Half precision is for products: what all tokens want of a parameter is added up in float32.

A new file in seqjax/mixers or seqjax/models is tested here without an entry anywhere.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from built import classes, logits
from jax.extend import core
from subjects import OPTIONS, mixer

from seqjax import lookup, spec
from seqjax.mixers._base import Mixer
from seqjax.models import linear
from seqjax.types import fields_of

D, V, S, CONTEXT = 16, 32, 16, 128
# Where rounding makes a step of what is looked at, gradients of float32 are others, and no sum is to blame.
SMOOTH = {"local_p": dict(radius=S, weights="softmax")}
FEATURES, TOKENS = spec.features(D), spec.tokens(V)
PAIRS = spec.tokens(V, source=(V, S))
BUILT = dict(width=D, mixer=(mixer("attention", dict(heads=2, max_length=CONTEXT)), mixer("gru", {})))
MODELS = {
    "stack": [
        dict(inputs=TOKENS, head=logits(V)),
        dict(inputs=TOKENS, head=logits(V), tie_embeddings=True, norm="rms", mlp="swiglu"),
        dict(inputs=FEATURES, head=classes(V, pool="attention", weights="sigmoid")),
        dict(inputs=TOKENS, head=classes(V, pool="last")),
    ],
    "linear": [dict(inputs=spec.features(D, 8), head=classes(2 * D))],
    "pair": [dict(inputs=PAIRS, head=classes(V), layers=2, interaction=mixer("interactive", {}), composition_layers=1)],
    "seq2seq": [dict(inputs=PAIRS, head=logits(V), encoder_layers=1)],
    "markov": [
        dict(
            inputs=TOKENS,
            head=logits(V),
            order=1,
            documents=lambda: (np.arange(V), np.arange(V) == 0, None),
            smoothing="witten_bell",
        )
    ],
}


def named(name, options):
    shown = {k: v for k, v in options.items() if k not in ("max_length", "inputs", "head", "documents")}
    head = options["head"].keywords if "head" in options else {}
    return "-".join([name, *map(str, shown.values()), *(str(v) for k, v in head.items() if k != "outputs")])


def subjects():
    for name in lookup.names("seqjax.mixers"):
        for options in OPTIONS.get(name, [{}]):
            options = options | SMOOTH.get(options.get("alignment"), {})
            options |= dict(max_length=CONTEXT) if "max_length" in options else {}
            yield named(name, options), functools.partial(mixer(name, options), width=D)
    for name in lookup.names("seqjax.models"):
        model = lookup.find(name, "seqjax.models", "Model")
        built = {key: option for key, option in BUILT.items() if key in fields_of(model)}
        if "dtype" not in fields_of(model):
            continue  # it computes in float32
        for options in MODELS[name]:
            yield named(name, options), functools.partial(model, **built, **options)


SUBJECTS = dict(subjects())
LEARNT = [name for name, make in SUBJECTS.items() if not getattr(make.func, "counted", False)]


def draws(name, B, L):
    """An input, and the second sequence of who reads one."""
    draw, module = np.random.default_rng(0), SUBJECTS[name]()
    L = module.inputs.length if isinstance(module, linear.Model) else L
    tokens = not isinstance(module, Mixer) and module.inputs.vocabulary is not None
    make = lambda N: draw.integers(V, size=(B, N), dtype=np.int32) if tokens else draw.normal(size=(B, N, D))
    reads = module.memory if isinstance(module, Mixer) else "source_BS" in module.side
    return [jnp.asarray(make(N)) for N in ((L, S) if reads else (L,))]


def forward(module, x, *second):
    """Of floats in the dtype of the module."""
    x, *second = (a.astype(module.dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a for a in (x, *second))
    if second and isinstance(module, Mixer):
        return module(x, module.prefill(*second))[0]
    return module(x, **({"source_BS": second[0]} if second else {}))[0]


def gradient(module, params, given, c):
    """Of <y, c> by the parameters."""
    y = lambda params: module.apply(params, *given, method=forward)
    return jax.grad(lambda params: jnp.vdot(y(params).astype(jnp.float32), c))(params)


def compare(name, B, L):
    """Parameter -> how far its gradient in bfloat16 is from that in float32."""
    given, draw = draws(name, B, L), np.random.default_rng(1)
    module, half = SUBJECTS[name](), SUBJECTS[name](dtype="bfloat16")
    params = jax.jit(functools.partial(module.init, method=forward))(jax.random.key(1), *(a[:1] for a in given))
    # Mistakes hide behind biases that start at zero.
    params = jax.tree.map(lambda p: p + 0.1 * draw.normal(size=p.shape).astype(p.dtype), params)
    # Both read the same function: what rounding a parameter does to it is no fault of a sum.
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16).astype(p.dtype), params)
    y = jax.jit(functools.partial(module.apply, method=forward))(params, *given)
    # What tokens want is much the same: of wishes that cancel out, only what rounding did to y would be left.
    c = np.float32(draw.normal(size=y.shape[-1:]) + 0.25 * draw.normal(size=y.shape)) + 0.25 * y / jnp.std(y)
    wanted, got = (jax.jit(functools.partial(gradient, m))(params, given, c) for m in (module, half))
    far = lambda a, b: float(jnp.linalg.norm(a - b) / jnp.linalg.norm(a))
    return {jax.tree_util.keystr(path): e for path, e in jax.tree.leaves_with_path(jax.tree.map(far, wanted, got))}


@pytest.mark.parametrize("name", ["stack", "bidirectional", "rg_lru"])
def test_gradients_of_many_tokens_are_those_of_float32(name):
    """8,192 tokens: an embedding, biases, recurrent and attention kernels."""
    far = compare(name, 512, 16)
    assert max(far.values()) < 0.02, far


@pytest.mark.slow  # 32,768 tokens through two programs for each of some forty subjects
@pytest.mark.parametrize("name", LEARNT)
def test_gradients_of_a_whole_batch_are_those_of_float32(name):
    """Row 60: within 2 % for each parameter."""
    far = compare(name, 256, CONTEXT)
    assert max(far.values()) < 0.02, far


# ---- The same of each sum by itself, which no rounding can hide.

ROWS = 11  # no other size is a multiple of it
SUMS = {"reduce_sum", "dot_general", "scatter-add", "cumsum", "psum", "conv_general_dilated"}


def equations(jaxpr):
    """All of a program, also inside loops and calls."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(equation.params):
            if isinstance(inner, (core.Jaxpr, core.ClosedJaxpr)):
                yield from equations(getattr(inner, "jaxpr", inner))


def has_rows(atom):
    return any(size % ROWS == 0 for size in atom.aval.shape)


def halves(atoms):
    return [a for a in atoms if getattr(a.aval, "dtype", None) in (jnp.bfloat16, jnp.float16)]


def carries(scan):
    """What a scan hands from step to step; what it stacks has one axis more than in its body."""
    body = scan.params["jaxpr"].jaxpr.outvars
    return [out for out, inner in zip(scan.outvars, body, strict=True) if out.aval.shape == inner.aval.shape]


def sums_over_rows(jaxpr):
    """Equations that add up over all rows what is in half precision."""
    for equation in equations(jaxpr):
        lost = [a for a in halves(equation.outvars) if not has_rows(a)]
        adds_up = equation.primitive.name in SUMS and any(map(has_rows, equation.invars))
        carried = equation.primitive.name == "scan" and set(lost) & set(carries(equation))
        if lost and (adds_up or carried):
            yield str(equation).partition("[")[0], [a.aval.str_short() for a in (*equation.invars, *equation.outvars)]


@pytest.mark.parametrize("name", LEARNT)
def test_nothing_is_added_up_over_rows_in_half_precision(name):
    module, given = SUBJECTS[name](dtype="bfloat16"), draws(name, ROWS, 8)
    init = functools.partial(module.init, method=forward)
    params = jax.eval_shape(init, jax.random.key(0), *given)
    c = jax.eval_shape(functools.partial(module.apply, method=forward), params, *given)
    program = jax.make_jaxpr(functools.partial(gradient, module))(params, given, c)
    found = list(sums_over_rows(program.jaxpr))
    assert not found, found
