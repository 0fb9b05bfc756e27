"""How the laws run a subject: whole, apart, in chunks and step by step, in a few programs with numpy between them.

A way is (params, x) -> y and what turns its cotangent into gradients by both.
"""

import dataclasses
import functools
import itertools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import programs
import pytest
from gradients import close, pull, zeros
from subjects import SUBJECTS, D, Given, L, Timed, V

from seqjax.models import stack

# Each row is a string, in which each letter is a token:
#     x real    R real, a new document starts here    . masked    r masked, with a reset that must not count
PLAIN = ["xxxxxx"] * 5
PADDED = ["..xxxx", "xxx...", "x..x.x", ".x....", "......"]  # left, right, interior, ragged, empty
PACKED = ["xxxxxx", "xxRxRx", "RxxRxx", "xRRxxx", "xxxxxR"]
BOTH = ["xx..Rx", ".Rx.Rx", "xxrxRx", "..r...", "R.xRxR"]
LAYOUT = PLAIN + PADDED + PACKED + BOTH
LETTERS = np.array([list(row) for row in LAYOUT])
MASK, RESET = np.isin(LETTERS, ["x", "R"]), np.isin(LETTERS, ["R", "r"])
B = len(LAYOUT)


def start(module, params):
    return module.apply(params, B, method="init_state")


def apply(module, params, x, state=None, mask=None, reset=None):
    return module.apply(params, x, state, mask_BL=mask, reset_BL=reset)


def step(module, params, x, state, mask, reset):
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


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A module, its parameters, and an input of B rows and L tokens."""

    module: object
    initial: dict
    params: dict
    x: np.ndarray

    def pull(self, params, x, state=None, mask=None, reset=None):
        """The output and the state after it; what turns their cotangents into gradients by params, x and state."""
        return pull(apply, self.module, params, x, state, mask, reset)

    def __call__(self, *arguments):
        return self.pull(*arguments)[0]

    def begin(self, params):
        """The state before the first token, and what turns its cotangent into gradients by params."""
        (state, y), back = pull(begin, self.module, params, self.x)
        return state, lambda by_state: back((by_state, zeros(y)))[0]

    @property
    def real(self):
        """Whether the input is real vectors, not tokens."""
        return self.x.dtype == "float32"


def each(names, daily=()):
    """Parameters; all tests of one stay on one worker, and use the same programs. Others than `daily` are slow."""
    slow = lambda name: [pytest.mark.slow] * bool(daily and name not in daily)
    return [pytest.param(name, marks=[pytest.mark.xdist_group(name), *slow(name)]) for name in names]


def only(names, daily=()):
    return pytest.mark.parametrize("subject", each(names, daily), indirect=True)


def drawn(name):
    """A module and an input for it."""
    module, draw = SUBJECTS[name], np.random.default_rng(0)
    if issubclass(module.make.func if isinstance(module, Given) else type(module), (stack.Model, Timed)):
        return module, draw.integers(0, V, (B, L), np.int32)
    return module, draw.normal(size=(B, L, D)).astype("float32")


@functools.lru_cache(1)  # pytest makes a fixture anew where a test has other subjects than the one before
def of(name):
    """A subject with parameters."""
    programs.forget()
    module, x = drawn(name)
    initial = jax.device_get(jax.jit(lambda x: module.init(jax.random.key(1), x))(x))
    # Mistakes hide behind biases that start at zero.
    draw = np.random.default_rng(1)
    params = jax.tree.map(lambda p: p + 0.1 * draw.normal(size=p.shape).astype(p.dtype), initial)
    return Subject(module, initial, params, x)


@functools.cache
def shape_of(name):
    """A subject without parameters, of which only their shapes are known: nothing is compiled for it."""
    module, x = drawn(name)
    shapes = jax.eval_shape(module.init, jax.random.key(1), x)
    return Subject(module, shapes, shapes, x)


def apart(subject):
    """The definition: every document in a row of its own, from its start, with no mask, reset or state.

    What comes after it in that row does not matter: a causal model cannot know.
    """
    documents = []
    for row, letters in enumerate(LAYOUT):
        documents.append([])
        for place, letter in enumerate(letters):
            if letter == "R":
                documents.append([])
            if letter in "xR":
                documents[-1].append((row, place))
    N = 2 * B
    here, there = np.zeros((2, N, L), int), np.full((2, B, L), -1)
    for own, document in enumerate(filter(None, documents)):
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
    return jax.tree.map(lambda *leaves: sum(leaves), *trees)


def evaluate(way, params, x):
    """y, and the gradients of <y, c>, for a fixed random c, by params and by x if that is real."""
    y, back = way(params, x)
    gradients = back(np.random.default_rng(3).normal(size=y.shape).astype(y.dtype))
    return y, gradients if jnp.issubdtype(x.dtype, jnp.floating) else gradients[:1]


@functools.lru_cache(1)
def wanted_of(subject):
    """What `apart` gives."""
    return evaluate(apart(subject), subject.params, subject.x)


def agree(subject, way):
    """A way has the values and gradients of `apart`."""
    close(evaluate(way, subject.params, subject.x), wanted_of(subject))


def like(tree):
    return jax.tree.map(lambda a: (a.shape, a.dtype), tree)
