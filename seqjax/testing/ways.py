"""How the laws run a subject: whole, apart, in chunks and step by step, in a few programs with numpy between them.

A way is (params, x) -> y and what turns its cotangent into gradients by both.
"""

import functools
import itertools
import operator

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.testing.gradients import numbers, pull, zeros
from seqjax.testing.rows import MASK, RESET, B, L, documents


def start(module, params):
    """The state before the first token."""
    return module.apply(params, B, method="init_state")


def apply(module, params, x, state=None, mask=None, reset=None):
    """The output and the state after it."""
    return module.apply(params, x, state, mask_BL=mask, reset_BL=reset, deterministic=True)


def step(module, params, x, state, mask, reset):
    """One token."""
    return module.apply(params, x, state, mask_B=mask, reset_B=reset, method="step")


def scan_steps(module, params, x, state, mask, reset):
    """`step` in a scan, which demands that the state keeps its structure, shapes and dtypes."""
    time_first = functools.partial(jax.tree.map, lambda a: jnp.swapaxes(a, 0, 1))
    turn = lambda state, token: step(module, params, token[0], state, *token[1:])[::-1]
    state, y = jax.lax.scan(turn, state, time_first((x, mask, reset)))
    return time_first(y), state


def begin(module, params, x):
    """The state before the first token, and what steps give from there on, without mask and reset."""
    state = start(module, params)
    return state, scan_steps(module, *jax.lax.stop_gradient((params, x, state)), None, None)[0]


def apart(subject):
    """The definition: every document in a row of its own, from its start, with no mask, reset or state.

    What comes after it in that row does not matter: a causal model cannot know.
    """
    N = 2 * B
    here, there = np.zeros((2, N, L), int), np.full((2, B, L), -1)
    for own, document in enumerate(documents()):
        for i, (row, place) in enumerate(document):
            here[:, own, i] = row, place
            there[:, row, place] = own, i
    parts, there = [slice(i, i + B) for i in range(0, N, B)], tuple(there[:, MASK])

    def way(params, x):
        outs, backs = zip(*(subject.pull(params, x[tuple(here[:, part])]) for part in parts), strict=True)
        y_NL = np.concatenate([y for y, _ in outs])
        y = np.zeros((B, L, *y_NL.shape[2:]), y_NL.dtype)
        y[MASK] = y_NL[there]

        def back(c):
            c_NL = np.zeros_like(y_NL)
            c_NL[there] = c[MASK]
            found = [back((c_NL[part], None)) for back, part in zip(backs, parts, strict=True)]
            by_x = np.zeros_like(x)
            if subject.real:
                by_x[MASK] = np.concatenate([by_part for _, by_part, *_ in found])[there]
            return total(*(by_params for by_params, *_ in found)), by_x

        return y, back

    return way


def exactly(module, params, x):
    """Every document alone, in rows of exactly its length."""
    y, lengths = 0, {}
    for document in documents():
        lengths.setdefault(len(document), []).append(document)
    for found in lengths.values():
        rows, places = np.moveaxis(np.array(found), -1, 0)
        y_NL = module.apply(params, x[rows, places], deterministic=True)[0]
        y = y + jnp.zeros((B, L, *y_NL.shape[2:]), y_NL.dtype).at[rows, places].set(y_NL)
    return y


def alone(subject):
    """As `apart`, for modules that see later tokens."""

    def way(params, x):
        y, back = pull(exactly, subject.module, params, x)
        return y, back

    return way


def whole(subject):
    """All in one go."""

    def way(params, x):
        (y, _), back = subject.pull(params, x, None, MASK, RESET)
        return y, lambda c: back((c, None))[:2]

    return way


def chunks(subject, sizes):
    """Piece by piece, handing on the state."""
    ends = list(itertools.accumulate(sizes))

    def way(params, x):
        state, unbegin = subject.begin(params)
        pieces, backs = [], []
        for start, end in zip([0, *ends], ends, strict=False):
            x_piece, *flags = jax.tree.map(operator.itemgetter(np.s_[:, start:end]), (x, MASK, RESET))
            (y, state), back = subject.pull(params, x_piece, state, *flags)
            pieces.append(y)
            backs.append(back)

        def back(c):
            by_params, by_x, by_state = [], [], zeros(state)
            for piece, c_piece in zip(reversed(backs), reversed(np.split(c, ends[:-1], axis=1)), strict=True):
                by_piece, by_x_piece, by_state, *_ = piece((c_piece, by_state))
                by_params.append(by_piece)
                by_x.insert(0, by_x_piece)
            return total(*by_params, unbegin(by_state)), np.concatenate(by_x, axis=1)

        return np.concatenate(pieces, axis=1), back

    return way


def steps(subject):
    """Token by token."""

    def way(params, x):
        state, unbegin = subject.begin(params)
        (y, after), back = pull(scan_steps, subject.module, params, x, state, MASK, RESET)

        def unstep(c):
            by_params, by_x, by_state, *_ = back((c, zeros(after)))
            return total(by_params, unbegin(by_state)), by_x

        return y, unstep

    return way


def total(*trees):
    """The sum of trees of gradients."""
    return jax.tree.map(lambda *leaves: sum(leaves), *map(numbers, trees))


def cotangent(y, at=MASK):
    """A fixed random c at some tokens (B, L), zero at others."""
    c = np.random.default_rng(3).normal(size=y.shape).astype(y.dtype)
    c[~at] = 0
    return c


def evaluate(way, params, x, at=MASK):
    """y, and the gradients of <y, c>, for a fixed random c at these tokens, by params and by x if that is real."""
    y, back = way(params, x)
    by_params, by_x = back(cotangent(y, at))
    return y, (numbers(by_params), by_x) if jnp.issubdtype(x.dtype, jnp.floating) else (numbers(by_params),)


def run(s, way, x=None, at=MASK):
    """`evaluate` on the subject's own parameters and input."""
    return evaluate(way, s.params, s.x if x is None else x, at)
