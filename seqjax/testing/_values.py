"""The laws of masks, resets and gradients: on rows of all layouts, in one go.

All laws of values share a few compiled programs: init, steps from the start, the plain call, all layouts, two lengths
of chunks, steps, low precision.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.mixers._base import describe
from seqjax.testing import ways
from seqjax.testing.differences import both, leaves, tokens
from seqjax.testing.gradients import numbers, pull, zeros
from seqjax.testing.law import law
from seqjax.testing.rows import ALL, BOTH, EVERYWHERE, MASK, PACKED, PADDED, PLAIN, RESET
from seqjax.testing.subject import EXACT, HALF
from seqjax.testing.ways import cotangent, run

SIZES = [(2, 4), (4, 2), (2, 2, 2)]  # of chunks
PRESENT = ("shapes", "dtypes", "finite", "causal")
LOW = {"bfloat16": 0.05, "float16": 0.02}  # how near values are
START = np.cumsum([0, *map(len, (PLAIN, PADDED, PACKED, BOTH))])
OF = {"padded": ALL[: START[2]], "packed": ALL[START[2] : START[3]], "both": ALL[START[3] :]}


def definition(s):
    """Each document by itself."""
    return ways.apart(s) if s.own.causal else ways.alone(s)


@functools.lru_cache(2)
def reference(s):
    """What each document by itself gives; or what the whole gives, so that other laws do not say that it is wrong."""
    by_itself, together = run(s, definition(s)), run(s, ways.whole(s))
    return together if any(both("", together, by_itself, s.tolerance)) else by_itself


def agree(s, words, rows):
    """In these rows, the whole is each document by itself."""
    at = MASK & np.isin(ALL, rows)[:, None]
    yield from both(words, run(s, ways.whole(s), at=at), run(s, definition(s), at=at), s.tolerance, at)


@law(
    "padding anywhere is nothing: before, behind or between the tokens",
    "a masked token moves the state: keep the state there (a decay must be 1 and an input 0), as with jnp.where",
    "positions count masked tokens: take masks.positions(shape, mask_BL, reset_BL), not jnp.arange",
    "a masked key is attended to, or a masked token lies within a convolution or a window",
    "a mean or a norm over the axis L counts masked tokens",
    after=PRESENT,
)
def padding(s):
    """Rows with a mask and without resets give what each document by itself gives."""
    yield from agree(s, "of padded rows", OF["padded"])


@law(
    "a reset is a fresh start: a document does not see those before it in its row",
    "reset_BL is not read: where it is True, the token must see init_state and nothing before it",
    "the reset acts one token late: the token with the reset is the first of the new document",
    "positions go on after a reset, or an earlier document is still attended to: use masks.segments",
    after=PRESENT,
)
def resets(s):
    """Rows of several documents give what each document by itself gives."""
    yield from agree(s, "of packed rows", OF["packed"])


@law(
    "resets and padding in one row: a reset on a masked token does not count",
    "a reset on a masked token must not count: use reset_BL & mask_BL, or masks.segments",
    "a reset is lost if padding comes before or after it",
    after=(*PRESENT, "padding", "resets"),
)
def packing(s):
    """Rows with both give what each document by itself gives."""
    yield from agree(s, "of packed and padded rows", OF["both"])


@law(
    "what stands under a mask changes nothing, gets no gradient, and gives zero",
    "the input is not filled before its first use: begin with masks.fill(x_BLD, mask_BL)",
    "the output under the mask is not filled: end with masks.fill(y_BLD, mask_BL)",
    "a NaN is multiplied by 0, or hidden by where behind a function of it: fill x before anything is computed",
    after=(*PRESENT, "padding"),
)
def content(s):
    """NaN, infinity and huge numbers, or ids that do not exist; in one go, in chunks and in steps."""
    x = s.x.copy()
    ids = [-1, 10**6] if s.real else [-1, s.own.inputs.vocabulary, 10**6]
    x[~MASK] = np.resize([np.nan, np.inf, -1e30] if s.real else ids, x[~MASK].shape).astype(x.dtype)
    every = {"": ways.whole(s)}
    if s.own.causal:
        every |= {f"in chunks of {', '.join(map(str, sizes))} ": ways.chunks(s, sizes) for sizes in SIZES}
        every["step by step "] = ways.steps(s)
    for words, way in every.items():
        noise, clean = run(s, way, x), run(s, way)
        yield from both(f"{words}with other content under the mask", noise, clean, s.tolerance, EVERYWHERE)
        y, (_, *by_x) = noise
        yield from tokens(f"the output {words}at masked tokens", y, np.zeros_like(y), 0, ~MASK)
        for by in by_x:
            yield from tokens(f"the gradient by masked input {words}".strip(), by, np.zeros_like(by), 0, ~MASK)
        _, (by_params, *by_x) = run(s, way, x, ~MASK)
        nothing, of = jax.tree.map(np.zeros_like, by_params), f"{words}the gradient of masked outputs"
        yield from leaves(f"{of} by the parameter", by_params, nothing, 0)
        for by in by_x:
            yield from tokens(f"{of} by the input", by, np.zeros_like(by), 0, EVERYWHERE)


@law(
    "gradients are slopes",
    "a backward pass written by hand (jax.custom_vjp) is not the derivative",
    "jax.lax.stop_gradient or a straight-through estimator is used on purpose: then this law cannot hold",
    unless=lambda s: None if s.tolerance <= EXACT else "it needs float32: set JAX_DEFAULT_MATMUL_PRECISION=highest",
    after=(*PRESENT, "padding", "resets", "packing", "content"),
)
def slopes(s):
    """<gradient, v> is the slope in a random direction v."""
    way, h = ways.whole(s), 2e-3
    draw = np.random.default_rng(6)  # a direction in which no relu bends within h
    at = (s.params, s.x) if s.real else (s.params,)
    of = lambda a: draw.normal(size=a.shape) if jnp.issubdtype(a.dtype, jnp.floating) else np.zeros(a.shape)
    v = jax.tree.map(lambda a: of(a).astype(a.dtype), at)
    away = lambda h: way(*(*jax.tree.map(lambda a, d: (a + h * d).astype(a.dtype), at, v), s.x)[:2])[0]
    y, back = way(s.params, s.x)
    c = cotangent(y, MASK & np.isin(ALL, OF["both"])[:, None])
    slope = np.vdot((away(h) - away(-h)) / (2 * h), c)
    along = sum(map(np.vdot, jax.tree.leaves(numbers(back(c)[: len(at)])), jax.tree.leaves(v)))
    if not abs(along - slope) <= 0.02 + 0.01 * abs(slope):
        where = "in a random direction of parameters and input"
        yield f"{where} the slope is {slope:.5g}, and the gradient says {along:.5g}"


def low(module, params, xs):
    """The output in each dtype; the gradient of bfloat16 alone."""
    run = lambda dtype, params: ways.apply(module.clone(dtype=dtype), params, xs[dtype], None, MASK, RESET)[0]
    return {"bfloat16": run("bfloat16", params), "float16": run("float16", jax.lax.stop_gradient(params))}


@law(
    "low precision is near, and keeps its dtype",
    "sums, decays, norms or a softmax run in half precision: cast to float32 before and back after",
    "a parameter is cast before it is used, so that its gradient loses small terms",
    unless=lambda s: {"float32": None, None: "it computes in float32 and has no dtype"}.get(
        s.dtype, "the laws of float32 compare with low precision"
    ),
    after=(*PRESENT, "padding", "resets", "packing"),
)
def low_precision(s):
    """In bfloat16 and float16, and the gradient in bfloat16."""
    xs = {dtype: s.x.astype(jnp.dtype(dtype)) if s.real else s.x for dtype in LOW}
    y, back = pull(low, s.module, s.params, xs)
    wanted, by_all = run(s, ways.whole(s))
    for dtype, tolerance in LOW.items():
        follows = s.real and (not s.predicts or y[dtype].dtype != np.float32)
        if y[dtype].dtype != (dtype if follows else "float32"):
            yield f"the output of {dtype} is {y[dtype].dtype}"
        yield from tokens(f"the output in {dtype}", y[dtype], wanted, max(tolerance, s.tolerance), EVERYWHERE)
    by_params, by_x = back({"bfloat16": cotangent(y["bfloat16"]), "float16": zeros(y["float16"])})
    by_params = numbers(by_params)
    gradients = (by_params, by_x["bfloat16"])[: len(by_all)]
    near = (wanted, gradients), (wanted, by_all)  # only gradients are left to be compared
    yield from both("in bfloat16", *near, max(HALF, s.tolerance), EVERYWHERE)
    for what, got, like in (("parameters", by_params, s.params), ("input", by_x["bfloat16"], xs["bfloat16"])):
        if (s.real or what == "parameters") and describe(got) != (wanted := describe(numbers(zeros(like)))):
            yield f"the gradient by the {what} is {describe(got)}, wanted {wanted}"


LAWS = (padding, resets, packing, content, slopes, low_precision)
