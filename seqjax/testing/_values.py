"""The laws of values and gradients, which compare two ways to run a subject on rows of all layouts at once.

They share a few compiled programs: init, steps from the start, the plain call, all layouts, two lengths of chunks,
steps, low precision.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.mixers._base import describe
from seqjax.testing import differences, ways
from seqjax.testing.differences import both, leaves, tokens
from seqjax.testing.gradients import pull, zeros
from seqjax.testing.law import law
from seqjax.testing.rows import ALL, BOTH, LAYOUT, MASK, PACKED, PADDED, PLAIN, RESET, B, L
from seqjax.testing.subject import EXACT, HALF
from seqjax.testing.ways import cotangent

SIZES = [(2, 4), (4, 2), (2, 2, 2)]  # of chunks
LOW = {"bfloat16": 0.05, "float16": 0.02}  # how near values are
EVERYWHERE = np.ones((B, L), bool)
START = np.cumsum([0, *map(len, (PLAIN, PADDED, PACKED, BOTH))])
OF = {"padded": ALL[: START[2]], "packed": ALL[START[2] : START[3]], "both": ALL[START[3] :]}

stateless = lambda s: None if s.own.causal else "it sees later tokens, so it has no state"
sighted = lambda s: None if s.own.causal else "it sees later tokens"


def run(s, way, x=None, rows=ALL):
    """`ways.evaluate` on the subject's own parameters and input."""
    return ways.evaluate(way, s.params, s.x if x is None else x, rows)


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
    yield from both(words, run(s, ways.whole(s), rows=rows), run(s, definition(s), rows=rows), s.tolerance, at)


@law(
    "what is finite stays finite, in values and gradients",
    "a square root, a logarithm or a division has no finite slope at 0: keep its argument away from 0",
    "jnp.where(mask, f(x), 0) hides a NaN of f, and its gradient is NaN: put a harmless x into f instead",
    "an exponential overflows: subtract the maximum first",
    after=("shapes",),
)
def finite(s):
    """Of the whole, with everything in its rows."""
    y, (by_params, *by_x) = run(s, ways.whole(s))
    calm = functools.partial(jax.tree.map, lambda a: np.where(np.isfinite(a), a, 0))
    yield from tokens("the output", y, calm(y), s.tolerance)
    for by in by_x:
        yield from tokens("the gradient by the input", by, calm(by), s.tolerance)
    yield from leaves("the gradient by the parameter", by_params, calm(by_params), s.tolerance)


@functools.lru_cache(2)
def influences(s):
    """How much token s changes the output at token t, and how much of the gradient of t it gets: [(L, L)]."""
    (y, _), back = s.pull(s.params, s.x)
    found = [np.zeros((L, L))]
    for at in range(L):
        x = s.x.copy()
        x[:, at] = (x[:, at] + 1) if s.real else (x[:, at] + 1) % s.own.inputs.vocabulary
        found[0][:, at] = np.abs(np.float32(s(s.params, x)[0]) - np.float32(y)).max((0, 2))
    if s.real:
        found.append(np.zeros((L, L)))
        for t in range(L):
            c = np.zeros_like(y)
            c[:, t] = y[:, t] + 1
            found[1][t] = np.abs(np.float32(back((c, None))[1])).max((0, 2))
    return found


def wrong_pairs(s, words, which):
    """Says of the first pairs (t, s) of tokens what is wrong with how s influences t."""
    for influence_LS, of in zip(influences(s), ("the output", "the gradient of the output"), strict=False):
        pairs = np.argwhere(which(influence_LS))
        for t, at in pairs[: differences.SHOWN]:
            yield f"in a row xxxxxx, {of} at token {t} {words} token {at}"
        if len(pairs) > differences.SHOWN:
            yield f"and so for {len(pairs) - differences.SHOWN} other pairs of tokens"


@law(
    "nothing depends on what comes later",
    "a convolution is padded on both sides: pad only before the first token",
    "attention lacks the causal mask, or a mean or a norm runs over the axis L",
    "an index is off by one: token t sees x_1 ... x_t",
    unless=sighted,
    after=("shapes", "finite"),
)
def causal(s):
    """In values, and in gradients if the input is real."""
    yield from wrong_pairs(s, "depends on", lambda a_LS: np.triu(a_LS, 1) != 0)


@law(
    "every token is seen by itself, and by later ones if the state moves",
    "the output of token t does not use x_t: it is one token late",
    "the state is returned as it came: return the one after the last token",
    "the state moves, but nothing reads it",
    unless=sighted,
    after=("shapes", "causal", "chunks"),
)
def sight(s):
    """By one of the later tokens, at least, that may look at it."""
    (before, _), two = s.begin(s.params), np.ones((B, 2), bool)
    _, after = s(s.params, s.x[:, :2], before, two, ~two)
    moves = any(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (before, after)), strict=True))
    yield from wrong_pairs(s, "does not depend on its own", lambda a_LS: np.diag(np.diag(a_LS) == 0))
    later = getattr(s.own, "dilation", 1)  # the first token after it that may look at it
    for influence_LS in influences(s):
        back_LS = np.tril(influence_LS, -1)
        if moves and not np.all(back_LS.any(axis=0)[:-later]):
            forgotten = np.flatnonzero(~back_LS.any(axis=0)[:-later])
            yield f"the state moves, but no later token depends on token {forgotten[0]}: it is forgotten at once"
        if not moves and np.any(back_LS):
            t, at = np.argwhere(back_LS)[0]
            yield f"token {t} depends on token {at}, and yet the state after two tokens is the state before them"


@law(
    "every token sees all of its document",
    "a direction is missing, or it ends before the first or the last token",
    unless=lambda s: "it is causal" if s.own.causal else None,
    after=("shapes", "finite"),
)
def sees_all(s):
    """In both directions."""
    yield from wrong_pairs(s, "does not depend on", lambda a_LS: a_LS == 0)


PRESENT = ("shapes", "dtypes", "finite", "causal")


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
        every |= {"in chunks of 2, 4 ": ways.chunks(s, SIZES[0]), "step by step ": ways.steps(s)}
    for words, way in every.items():
        noise, clean = run(s, way, x), run(s, way)
        yield from both(f"{words}with other content under the mask", noise, clean, s.tolerance, EVERYWHERE)
        y, (_, *by_x) = noise
        yield from tokens(f"the output {words}at masked tokens", y, np.zeros_like(y), 0, ~MASK)
        for by in by_x:
            yield from tokens(f"the gradient by masked input {words}".strip(), by, np.zeros_like(by), 0, ~MASK)


@law(
    "chunks with state are the whole",
    "the state that comes in is not read, or the one that goes out is not the one after the last real token",
    "the state goes out wrong where a chunk ends with masked tokens or a reset",
    "positions start at 0 in every chunk: keep the count in the state",
    "a cache or a window drops tokens at the border of chunks",
    unless=stateless,
    after=PRESENT,
)
def chunks(s):
    """Of any sizes."""
    for sizes in SIZES:
        words = f"in chunks of {', '.join(map(str, sizes))}"
        yield from both(words, run(s, ways.chunks(s, sizes)), reference(s), s.tolerance)


@law(
    "steps are the whole",
    "step has code of its own that computes something else: leave it out, and it is a sequence of length one",
    "a sequence of length one is a special case, as for a convolution or a scan",
    "step ignores mask_B or reset_B",
    unless=stateless,
    after=(*PRESENT, "chunks"),
)
def steps(s):
    """Token by token, in a scan."""
    yield from both("step by step", run(s, ways.steps(s)), reference(s), s.tolerance)


@law(
    "steps without mask and reset are the whole",
    "step or the call does something else if mask and reset are None",
    unless=stateless,
    after=(*PRESENT, "chunks", "steps"),
)
def bare_steps(s):
    """Of plain rows."""
    yield from tokens("the output step by step", s.bare, s(s.params, s.x)[0], s.tolerance, EVERYWHERE, ["xxxxxx"] * B)


@law(
    "rows of a state can be gathered, as beam search does",
    "an array of the state does not have the batch as its first axis",
    "the state mixes rows, or the module keeps something beside it",
    unless=stateless,
    after=(*PRESENT, "chunks"),
)
def gather(s):
    """In any order, some of them twice: each row goes on as if the others were not there."""
    (begun, _), rows = s.begin(s.params), np.random.default_rng(8).integers(0, B, B)
    odd = [path for path, a in jax.tree.leaves_with_path(begun) if np.shape(a)[:1] != (B,)]
    if odd:
        where = f"{differences.name(odd[0])} has another first axis"
        yield f"of a batch of {B} rows the state is {describe(begun)}: {where}"
        return
    read = lambda state, part, rows: s(s.params, *(
        a if a is state else a[rows][:, part] for a in (s.x, state, MASK, RESET)))  # fmt: skip
    every, first, second = np.arange(B), np.s_[:2], np.s_[2:4]
    _, state = read(begun, first, every)
    y, after = read(state, second, every)
    taken = functools.partial(jax.tree.map, lambda a: a[rows])
    got_y, got_after = read(taken(state), second, rows)
    letters = [LAYOUT[row][2:4] for row in rows]
    yield from tokens("the output of gathered rows", got_y, taken(y), s.tolerance, np.ones((B, 2), bool), letters)
    yield from leaves("of gathered rows the state", got_after, taken(after), s.tolerance)


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
    v = jax.tree.map(lambda a: draw.normal(size=a.shape).astype(a.dtype), at)
    away = lambda h: way(*(*jax.tree.map(lambda a, d: a + h * d, at, v), s.x)[:2])[0]
    y, back = way(s.params, s.x)
    c = cotangent(y, OF["both"])
    slope = np.vdot((away(h) - away(-h)) / (2 * h), c)
    along = sum(map(np.vdot, jax.tree.leaves(back(c)[: len(at)]), jax.tree.leaves(v)))
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
    unless=lambda s: None if s.own.dtype == "float32" else "the laws of float32 compare with low precision",
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
    gradients = (by_params, by_x["bfloat16"])[: len(by_all)]
    near = (wanted, gradients), (wanted, by_all)  # only gradients are left to be compared
    yield from both("in bfloat16", *near, max(HALF, s.tolerance), EVERYWHERE)
    for what, got, like in (("parameters", by_params, s.params), ("input", by_x["bfloat16"], xs["bfloat16"])):
        if (s.real or what == "parameters") and describe(got) != describe(like):
            yield f"the gradient by the {what} is {describe(got)}, wanted {describe(like)}"


def untestable(s):
    """Why the law of full caches does not apply."""
    room = s.own.capacity
    if room is None or not s.own.causal:
        return "its state holds any number of tokens"
    if not L <= room < L + 4:
        return f"its cache holds {room:,} tokens, and the law fills one of {L} to {L + 3}: set such a max_length"
    return None


@law(
    "a full cache is never silent: NaN from the first token without room to the end of its document",
    "a token beyond capacity overwrites or drops another one without a word: give NaN there",
    "a reset does not empty the cache, or the cache takes a place for masked tokens",
    unless=untestable,
    after=(*PRESENT, "padding", "resets", "packing", "chunks"),
)
def full_cache(s):
    """And no further; zero where masked."""
    (wanted, _), (state, _) = s(s.params, s.x), s.begin(s.params)
    rows = list(np.resize(["xxxxxxxxxxRxxxxx", "xxxxxxxxxRRxxxxx", "xxxxxxxxRxRxxxxx", "xxxxxxxxx.Rxxxxx"], B))
    letters = np.array([list(row) for row in rows])
    # Tokens of the same places as in their document: what follows the last reset is seen in full.
    x, count_B = np.concatenate([s.x, s.x[:, :4], s.x], axis=1), np.zeros(B, int)
    ys, full = [], []
    for start, end in ((0, 4), (4, 6), (6, 10), (10, 12), (12, 16)):
        reset, mask = letters[:, start:end] == "R", letters[:, start:end] != "."
        y, state = s(s.params, x[:, start:end], state, mask, reset)
        ys.append(y)
        for t in range(end - start):
            count_B = np.where(reset[:, t], 1, count_B + mask[:, t])
            full.append((count_B > s.own.capacity) & mask[:, t])
    y, full_BL, mask = np.concatenate(ys, axis=1), np.stack(full, axis=1), letters != "."
    nan = np.isnan(y)
    for b, t in np.argwhere((nan.all(axis=2) != full_BL) | (nan.any(axis=2) != full_BL))[: differences.SHOWN]:
        yield f"row {rows[b]}, token {t}: got {y[b, t, 0]:.5g}, wanted {'NaN' if full_BL[b, t] else 'a number'}"
    yield from tokens("the output at masked tokens", y, np.zeros_like(y), 0, ~mask, rows)
    yield from tokens("the output after a reset", y[:, 10:], wanted, s.tolerance, EVERYWHERE, [r[10:] for r in rows])


LAWS = (
    finite, causal, sees_all, padding, resets, packing, content, chunks, steps, bare_steps, gather, sight, slopes,
    low_precision, full_cache,
)  # fmt: skip
