"""The laws of the state: in chunks and steps, gathered, and full."""

import functools

import jax
import numpy as np

from seqjax.mixers._base import describe
from seqjax.testing import differences, ways
from seqjax.testing._sight import influences, wrong_pairs
from seqjax.testing._values import PRESENT, SIZES, reference
from seqjax.testing.differences import both, leaves, tokens
from seqjax.testing.law import law, stateless
from seqjax.testing.rows import EVERYWHERE, LAYOUT, MASK, RESET, B, L
from seqjax.testing.ways import run


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
    "every token is seen by itself, and by later ones if the state moves",
    "the output of token t does not use x_t: it is one token late",
    "the state is returned as it came: return the one after the last token",
    "the state moves, but nothing reads it",
    unless=lambda s: None if s.own.causal else "it sees later tokens",
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


LAWS = (chunks, steps, bare_steps, gather, sight, full_cache)
