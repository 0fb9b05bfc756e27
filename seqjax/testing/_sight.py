"""The laws that others need: nothing becomes NaN, and tokens see what they may see."""

import functools

import jax
import numpy as np

from seqjax.testing import differences, ways
from seqjax.testing.differences import leaves, tokens
from seqjax.testing.law import law
from seqjax.testing.rows import L


@law(
    "what is finite stays finite, in values and gradients",
    "a square root, a logarithm or a division has no finite slope at 0: keep its argument away from 0",
    "jnp.where(mask, f(x), 0) hides a NaN of f, and its gradient is NaN: put a harmless x into f instead",
    "an exponential overflows: subtract the maximum first",
    after=("shapes",),
)
def finite(s):
    """Of the whole, with everything in its rows."""
    y, (by_params, *by_x) = ways.run(s, ways.whole(s))
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
    unless=lambda s: None if s.own.causal else "it sees later tokens",
    after=("shapes", "finite"),
)
def causal(s):
    """In values, and in gradients if the input is real."""
    yield from wrong_pairs(s, "depends on", lambda a_LS: np.triu(a_LS, 1) != 0)


@law(
    "every token sees all of its document",
    "a direction is missing, or it ends before the first or the last token",
    unless=lambda s: "it is causal" if s.own.causal else None,
    after=("shapes", "finite"),
)
def sees_all(s):
    """In both directions."""
    yield from wrong_pairs(s, "does not depend on", lambda a_LS: a_LS == 0)


LAWS = (finite, causal, sees_all)
