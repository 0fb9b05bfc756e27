"""The laws of what reads a second sequence."""

import jax
import numpy as np

from seqjax.testing import differences, subject, ways
from seqjax.testing.gradients import call, pull
from seqjax.testing.law import law
from seqjax.testing.rows import MASK, RESET, SECOND, B, S

HOLDS = SECOND.any(axis=1)


def alone(s):
    """Why these laws do not apply."""
    return None if subject.second(s.own) else "it reads one sequence"


def read(module, params, second, second_mask, x, mask, reset):
    """The output, of parameters and the second sequence."""
    params, inner = {"params": params["params"]["inner"]}, module.make(dtype=module.dtype)
    state = inner.apply(params, second, second_mask, method="prefill")
    return ways.apply(inner, params, x, state, mask, reset)[0]


def reading(s):
    """The way to run a subject of which x is the second sequence, with its mask."""

    def way(params, second):
        y, back = pull(read, s.module, params, second, SECOND, s.x, MASK, RESET)
        return y, lambda c: back(c)[:2]

    return way


def seconds(s):
    """B second sequences."""
    draw = np.random.default_rng(6)
    if s.predicts:
        return draw.integers(0, s.own.inputs.source_vocabulary, (B, S), np.int32)
    return draw.normal(size=(B, S, s.own.width)).astype("float32")


@law(
    "what is masked in a second sequence is not there",
    "prefill does not read its mask, or does not fill what it masks: begin with masks.fill(memory_BSD, mask_BS)",
    "positions in the second sequence count masked tokens",
    unless=alone,
    after=("shapes", "finite", "causal"),
)
def second_masked(s):
    """Row by row the same as without it, values and gradients; what stands there gets none."""
    second = seconds(s)
    real = second.dtype == "float32"
    noise, nothing = second.copy(), second.copy()
    noise[~SECOND], nothing[~SECOND] = np.nan if real else 10**6, 0
    y, gradients = ways.evaluate(reading(s), s.params, noise)
    by_params, *by_second = gradients
    if not all(np.all(np.isfinite(a)) for a in jax.tree.leaves((y, gradients))):
        yield "NaN in the second sequence, under its mask, reaches the output or a gradient"
        return
    clean = ways.evaluate(reading(s), s.params, nothing)
    words = "with other content under the mask of the second sequence"
    yield from differences.tokens(f"the output {words}", y, clean[0], s.tolerance)
    rest = (by_params, [by * SECOND[..., None] for by in by_second])
    wanted = (clean[1][0], [by * SECOND[..., None] for by in clean[1][1:]])
    yield from differences.leaves(f"{words} the gradient by", rest, wanted, s.tolerance)
    if any(np.any(by[~SECOND]) for by in by_second):
        yield "what is masked in the second sequence gets a gradient"
    by_itself = second[SECOND].reshape(HOLDS.sum(), 2, *second.shape[2:])
    flags = (a[HOLDS] for a in (s.x, MASK, RESET))
    bare = y.copy()
    bare[HOLDS] = call(read, s.module, s.params, by_itself, None, *flags)
    yield from differences.tokens("the output with the second sequence padded", y, bare, s.tolerance)


@law(
    "each row reads all of its own second sequence, and no other",
    "rows of the second sequence are mixed, or only a part of it is read",
    unless=alone,
    after=("shapes", "finite", "causal", "second-masked"),
)
def second_read(s):
    """Each token of each second sequence moves its row and no other one; a masked one moves none."""
    second, somebody_B = seconds(s), MASK.any(axis=1)
    y, _ = reading(s)(s.params, second)
    for row, place in np.ndindex(5, S):  # each of SECOND, of rows that are packed and padded
        row += B - 5
        other = second.copy()
        other[row, place] += 1
        if second.dtype != "float32":
            other[row, place] %= s.own.inputs.source_vocabulary
        moved_B = np.any(reading(s)(s.params, other)[0] != y, axis=(1, 2))
        wanted_B = (np.arange(B) == row) & SECOND[row, place] & somebody_B
        if np.any(moved_B != wanted_B):
            got, wanted = (np.flatnonzero(of).tolist() for of in (moved_B, wanted_B))
            yield f"token {place} of the second sequence of row {row} moves the outputs of rows {got}, wanted {wanted}"
            return


LAWS = (second_masked, second_read)
