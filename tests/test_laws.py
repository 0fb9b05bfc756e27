"""The laws: what every mixer, and every causal model built of mixers, must hold. Values and gradients.

A new file in seqjax/mixers is tested here without an entry anywhere. A law compares two ways to run a mixer, "in
chunks" and "apart", say, made of a few compiled programs that all laws share; between them there is numpy. A layout is
one string per row, in which each letter is a token:

    x real    R real, a new document starts here    . masked    r masked, with a reset that must not count

What reads a second sequence is given the same one in all rows, with nonsense where it is masked.
"""

import dataclasses
import functools
import itertools
import operator
import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from gradients import call, close, pull, zeros

from seqjax import lookup
from seqjax.mixers._base import check_state
from seqjax.models import lm, seq2seq
from seqjax.models._blocks import Backbone
from seqjax.types import Spec

pytestmark = pytest.mark.usefixtures("compile_once")

B, L, D, V, S = 5, 6, 8, 7, 4
CONTEXT = 8

# What is not listed is tested with its defaults.
OPTIONS = {
    "attention": [
        dict(heads=2, max_length=CONTEXT),
        dict(heads=1, max_length=CONTEXT, positions="none", backend="blockwise"),
        dict(
            heads=2,
            kv_heads=1,
            max_length=CONTEXT,
            qk_norm=True,
            soft_cap=1.0,
            sinks=True,
            output_gate="feature",
            backend="blockwise",
        ),
        dict(window=3, kv_heads=2, output_gate="head"),
        dict(heads=2, window=2, sinks=True, backend="blockwise", positions="sinusoidal"),
        dict(heads=2, max_length=CONTEXT, positions="learned"),
        dict(heads=2, kv_heads=1, window=3, positions="alibi"),
        dict(heads=2, max_length=CONTEXT, positions="relative", num_buckets=4, max_distance=5),
        dict(heads=2, max_length=CONTEXT, rope_scaling="yarn", rope_factor=4.0, rope_original_length=4),
        dict(heads=2, kv_heads=1, max_length=CONTEXT, score="additive"),
        dict(heads=2, max_length=CONTEXT, score="location", positions="sinusoidal", weights="sigmoid"),
        dict(heads=2, max_length=CONTEXT, score="cosine", weights="entmax"),
        dict(heads=2, window=2, dilation=2, score="general"),
    ],
    "attention_rnn": [
        {},
        dict(cell="lstm", score="general", alignment="local_m", radius=1),
        dict(style="luong", score="cosine", weights="entmax", alignment="local_p", radius=2),
        dict(style="luong", cell="lstm", score="location", max_source_length=3, weights="sigmoid", input_feeding=False),
    ],
    "interactive": [{}, dict(heads=2, score="general", fusion="coattention")],
    "sparse_attention": [dict(heads=2, max_length=CONTEXT, block_size=2, local_blocks=0, random_blocks=1)],
    "cross_attention": [dict(heads=2), dict(heads=2, kv_heads=1, qk_norm=True, backend="blockwise")],
    "linear_attention": [
        dict(heads=2),
        dict(heads=1, feature_map="taylor", feature_width=2),
        dict(heads=2, feature_map="learned", feature_width=3),
    ],
    "lru": [{}, dict(state_size=3)],
    "min_gru": [{}, dict(candidate="positive")],
    "conv_lstm": [dict(kernel_size=2)],
    "gru": [{}, dict(reset_after=False, zoneout=0.2, remat="chunk")],
    "lstm": [{}, dict(peepholes=True, hidden_size=6, initial_state="learned")],
    "mgu": [dict(initial_state="learned", remat="chunk")],
    "rnn": [{}, dict(activation="relu")],
    "slstm": [dict(heads=2)],
    "stacked": [dict(residual=True)],
}

PLAIN = ["xxxxxx"] * B
PADDED = ["..xxxx", "xxx...", "x..x.x", ".x....", "......"]  # left, right, interior, ragged, empty
PACKED = ["xxxxxx", "xxRxRx", "RxxRxx", "xRRxxx", "xxxxxR"]
BOTH = ["xx..Rx", ".Rx.Rx", "xxrxRx", "..r...", "R.xRxR"]


# ---- Who must hold them: everything with the signature of a mixer.


class Stack(Backbone, kw_only=True):
    """The blocks of a model and nothing else: features in, features out."""

    def __call__(self, x_BLD, state=None, *, mask_BL=None, reset_BL=None, deterministic=True):
        if state is not None:
            check_state("Stack", state, self.init_state, x_BLD.shape[0])
        after = []
        for block, before in zip(self.blocks, state or [None] * self.layers, strict=True):
            x_BLD, new = block(x_BLD, before, mask_BL=mask_BL, reset_BL=reset_BL, deterministic=deterministic)
            after.append(new)
        return x_BLD, state and tuple(after)

    def step(self, x_BD, state, *, mask_B=None, reset_B=None):
        widen = lambda flag_B: None if flag_B is None else flag_B[:, None]
        y_BLD, state = self(x_BD[:, None], state, mask_BL=widen(mask_B), reset_BL=widen(reset_B))
        return y_BLD[:, 0], state


class Given(nn.Module):
    """What reads a second sequence, given one; but for `init_state`, which takes parameters, it is like the others."""

    make: Callable
    dtype: str = "float32"

    def setup(self):
        self.inner = self.make(dtype=self.dtype)

    def second(self, batch):
        """The sequence and its mask."""
        real_S = jnp.array([True, False, True, True])
        if issubclass(self.make.func, seq2seq.Model):
            one_S = jnp.where(real_S, jax.random.randint(jax.random.key(5), (S,), 0, V), 10**6)
        else:
            one_S = jnp.where(real_S[:, None], jax.random.normal(jax.random.key(5), (S, D)), jnp.nan)
        return tuple(jnp.broadcast_to(a, (batch, *a.shape)) for a in (one_S, real_S))

    def init_state(self, batch):
        return self.inner.prefill(*self.second(batch))

    def __call__(self, x, state=None, **flags):
        if state is not None:
            return self.inner(x, state, **flags)
        if not issubclass(self.make.func, seq2seq.Model):
            return self.inner(x, self.init_state(len(x)), **flags)[0], None
        source_BS, mask_BS = self.second(len(x))
        return self.inner(x, source_BS=source_BS, source_mask_BS=mask_BS, **flags)

    def step(self, x, state, **flags):
        return self.inner.step(x, state, **flags)


def mixer(name, options):
    return functools.partial(lookup.find(name, "seqjax.mixers", "Mixer"), **options)


TOKENS = dict(inputs=Spec(vocabulary=V), outputs=V, width=D, expansion=0.0)
PAIRS = TOKENS | dict(inputs=Spec(vocabulary=V, source_vocabulary=V, source_length=S), encoder_layers=1)
FEATURES = dict(inputs=Spec(features=D), outputs=D, width=D, expansion=1.0)
GRU, ATTENTION = mixer("gru", {}), mixer("attention", OPTIONS["attention"][0])

SUBJECTS = {}
for name in lookup.names("seqjax.mixers"):
    if not lookup.find(name, "seqjax.mixers", "Mixer").causal:
        continue  # tests/mixers/test_bidirectional.py
    variants = OPTIONS.get(name, [{}])
    reads = lookup.find(name, "seqjax.mixers", "Mixer").memory
    for options in variants:
        words = [name, *(str(v) for k, v in options.items() if k != "max_length")]
        make = functools.partial(mixer(name, options), width=D)
        SUBJECTS["-".join(words)] = Given(make) if reads else make()
    only = dict(mixer=mixer(name, variants[0]), layers=1)
    if reads:
        SUBJECTS[f"seq2seq({name})"] = Given(functools.partial(seq2seq.Model, **PAIRS, **only, cross_attention=None))
    else:
        SUBJECTS[f"lm({name})"] = lm.Model(**TOKENS, **only)
SUBJECTS["stack(gru,attention)"] = Stack(**FEATURES, mixer=(GRU, ATTENTION), layers=2)
SUBJECTS["lm(attention,gru)"] = lm.Model(**TOKENS, mixer=(ATTENTION, GRU), layers=3, tie_embeddings=True, norm="rms")
SUBJECTS["seq2seq(attention,gru)"] = Given(functools.partial(seq2seq.Model, **PAIRS, mixer=(ATTENTION, GRU)))
READERS = [name for name, module in SUBJECTS.items() if isinstance(module, Given)]
ROOM = {name: module.make() if name in READERS else module for name, module in SUBJECTS.items()}
ROOM = {name: module.capacity for name, module in ROOM.items()}
CACHED = [name for name, room in ROOM.items() if room is not None]


@dataclasses.dataclass(frozen=True)
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
        """The state before the first token; what turns its cotangent into gradients by params."""
        return pull(start, self.module, params)

    def fresh(self):
        return self.begin(self.params)[0]

    @property
    def real(self):
        """Whether the input is real vectors, not tokens."""
        return jnp.issubdtype(self.x.dtype, jnp.floating)


def each(names):
    """Parameters; all tests of one stay on one worker, and use the same programs."""
    return [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in names]


def only(names):
    return pytest.mark.parametrize("subject", each(names), indirect=True)


@pytest.fixture(scope="module", params=each(SUBJECTS))
def subject(request):
    return of(request.param)


@functools.lru_cache(1)  # pytest makes a fixture anew where a test has other subjects than the one before
def of(name):
    jax.clear_caches()
    module = SUBJECTS[name]
    draw = np.random.default_rng(0)
    if issubclass(module.make.func if isinstance(module, Given) else type(module), lm.Model):
        x = draw.integers(0, V, (B, L), np.int32)
    else:
        x = draw.normal(size=(B, L, D)).astype("float32")
    initial = jax.device_get(jax.jit(module.init)(jax.random.key(1), x))
    # Mistakes hide behind biases that start at zero.
    params = jax.tree.map(lambda p: p + 0.1 * draw.normal(size=p.shape).astype(p.dtype), initial)
    return Subject(module, initial, params, x)


def start(module, params):
    return module.apply(params, B, method="init_state")


def apply(module, params, x, state=None, mask=None, reset=None):
    return module.apply(params, x, state, mask_BL=mask, reset_BL=reset)


def scan_steps(module, params, x, state, mask, reset):
    """`step` in a scan, which demands that the state keeps its structure, shapes and dtypes."""

    def step(state, token):
        x_B, mask_B, reset_B = token
        y_B, state = module.apply(params, x_B, state, mask_B=mask_B, reset_B=reset_B, method="step")
        return state, y_B

    time_first = functools.partial(jax.tree.map, lambda a: jnp.swapaxes(a, 0, 1))
    state, y = jax.lax.scan(step, state, time_first((x, mask, reset)))
    return time_first(y), state


# ---- What they speak of: ways to run a subject, (params, x) -> y and what turns its cotangent into gradients by both.


def parse(layout):
    """A layout -> mask and reset; None where there is none."""
    letters = np.array([list(row) for row in layout])
    mask, reset = np.isin(letters, ["x", "R"]), np.isin(letters, ["R", "r"])
    return mask if layout != PLAIN else None, reset if reset.any() else None


def apart(subject, layout):
    """The definition: every document in a row of its own, from its start, with no mask, reset or state.

    What comes after it in that row does not matter: a causal model cannot know.
    """
    documents = []
    for row, letters in enumerate(layout):
        documents.append([])
        for place, letter in enumerate(letters):
            if letter == "R":
                documents.append([])
            if letter in "xR":
                documents[-1].append((row, place))
    N = 3 * B
    here, there = np.zeros((2, N, L), int), np.full((2, B, L), -1)
    for own, document in enumerate(documents):
        for i, (row, place) in enumerate(document):
            here[:, own, i] = row, place
            there[:, row, place] = own, i
    real, parts = there[0] >= 0, [slice(i, i + B) for i in range(0, N, B)]
    there = tuple(there[:, real])

    def way(params, x):
        outs, backs = zip(*(subject.pull(params, x[tuple(here[:, part])]) for part in parts), strict=True)
        y_NL = np.concatenate([y for y, _ in outs])
        y = np.zeros((B, L, *y_NL.shape[2:]), y_NL.dtype)
        y[real] = y_NL[there]

        def back(c):
            c_NL = np.zeros_like(y_NL)
            c_NL[there] = c[real]
            found = [back((c_NL[part], None)) for back, part in zip(backs, parts, strict=True)]
            by_x = np.zeros_like(x)
            if subject.real:
                by_x[real] = np.concatenate([by_part for _, by_part, *_ in found])[there]
            return total(*(by_params for by_params, *_ in found)), by_x

        return y, back

    return way


def whole(subject, layout):
    """All in one go."""

    def way(params, x):
        (y, _), back = subject.pull(params, x, None, *parse(layout))
        return y, lambda c: back((c, None))[:2]

    return way


def chunks(subject, layout, sizes):
    """Piece by piece, handing on the state."""
    ends = list(itertools.accumulate(sizes))

    def way(params, x):
        state, unbegin = subject.begin(params)
        pieces, backs = [], []
        for start, end in zip([0, *ends], ends, strict=False):
            x_piece, *flags = jax.tree.map(operator.itemgetter(np.s_[:, start:end]), (x, *parse(layout)))
            (y, state), back = subject.pull(params, x_piece, state, *flags)
            pieces.append(y)
            backs.append(back)

        def back(c):
            by_params, by_x, by_state = [], [], zeros(state)
            for piece, c_piece in zip(reversed(backs), reversed(np.split(c, ends[:-1], axis=1)), strict=True):
                by_piece, by_x_piece, by_state, *_ = piece((c_piece, by_state))
                by_params.append(by_piece)
                by_x.insert(0, by_x_piece)
            return total(*by_params, *unbegin(by_state)), np.concatenate(by_x, axis=1)

        return np.concatenate(pieces, axis=1), back

    return way


def steps(subject, layout):
    """Token by token."""

    def way(params, x):
        state, unbegin = subject.begin(params)
        (y, after), back = pull(scan_steps, subject.module, params, x, state, *parse(layout))

        def unstep(c):
            by_params, by_x, by_state, *_ = back((c, zeros(after)))
            return total(by_params, *unbegin(by_state)), by_x

        return y, unstep

    return way


def total(*trees):
    return jax.tree.map(lambda *leaves: sum(leaves), *trees)


def evaluate(way, params, x):
    """y, and the gradients of <y, c>, for a fixed random c, by params and by x if that is real."""
    y, back = way(params, x)
    gradients = back(np.random.default_rng(3).normal(size=y.shape).astype(y.dtype))
    return y, gradients if jnp.issubdtype(x.dtype, jnp.floating) else gradients[:1]


def agree(subject, got, wanted):
    """Two functions have the same values and gradients."""
    close(evaluate(got, subject.params, subject.x), evaluate(wanted, subject.params, subject.x))


def like(tree):
    return jax.tree.map(lambda a: (a.shape, a.dtype), tree)


# ---- The laws.


@pytest.mark.parametrize("layout", [PADDED, PACKED, BOTH], ids=["padded", "packed", "both"])
def test_padding_is_nothing_and_a_reset_is_a_fresh_start(subject, layout):
    agree(subject, whole(subject, layout), apart(subject, layout))


@pytest.mark.parametrize("sizes", [(2, 4), (4, 2), (2, 2, 2)], ids=str)
def test_chunks_with_state_are_the_whole(subject, sizes):
    agree(subject, chunks(subject, BOTH, sizes), apart(subject, BOTH))


def test_steps_are_the_whole(subject):
    agree(subject, steps(subject, BOTH), apart(subject, BOTH))


def test_steps_without_mask_or_reset_are_the_whole(subject):
    y, _ = call(scan_steps, subject.module, subject.params, subject.x, subject.fresh(), None, None)
    close(y, subject(subject.params, subject.x)[0])


@pytest.mark.parametrize("way", [whole, functools.partial(chunks, sizes=(2, 4))], ids=["whole", "chunks"])
def test_content_under_the_mask_changes_nothing_and_gets_no_gradient(subject, way):
    mask, _ = parse(BOTH)
    x = subject.x.copy()
    x[~mask] = np.resize([np.nan, np.inf, -1e30] if subject.real else [-1, V, 10**6], x[~mask].shape)
    y, gradients = evaluate(way(subject, BOTH), subject.params, x)
    close((y, gradients), evaluate(way(subject, BOTH), subject.params, subject.x))
    assert not np.any(y[~mask])
    if subject.real:
        assert not np.any(gradients[1][~mask])


def test_nothing_depends_on_what_comes_later(subject):
    before, two = subject.fresh(), np.ones((B, 2), bool)
    _, after = subject(subject.params, subject.x[:, :2], before, two, ~two)
    moves = any(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (before, after)), strict=True))
    (y, _), back = subject.pull(subject.params, subject.x)
    influence_LS = [np.zeros((L, L))]
    for s in range(L):
        x = subject.x.copy()
        x[:, s] = (x[:, s] + 1) % V
        influence_LS[0][:, s] = np.abs(subject(subject.params, x)[0] - y).max((0, 2))
    if subject.real:
        influence_LS.append(np.zeros((L, L)))
        for t in range(L):
            c = np.zeros_like(y)
            c[:, t] = y[:, t] + 1
            influence_LS[1][t] = np.abs(back((c, None))[1]).max((0, 2))
    for one_LS in influence_LS:
        assert not np.any(np.triu(one_LS, 1)), "the future leaks"
        assert np.all(np.diag(one_LS)), "a token does not see itself"
        if moves:
            later = getattr(subject.module, "dilation", 1)  # the first token after it that may look at it
            assert np.all(np.tril(one_LS, -1).any(axis=0)[:-later]), "a token is forgotten at once"
        else:
            assert not np.any(np.tril(one_LS, -1)), "a token is seen through a state that it has not moved"


def test_gradients_are_slopes(subject):
    """Of hand-written backward passes, too: <gradient, v> is the slope in a random direction v."""
    way, h = whole(subject, BOTH), 2e-3
    draw = np.random.default_rng(5)  # a direction in which no relu bends within h
    at = (subject.params, subject.x) if subject.real else (subject.params,)
    v = jax.tree.map(lambda a: draw.normal(size=a.shape).astype(a.dtype), at)
    away = lambda h: way(*(*jax.tree.map(lambda a, d: a + h * d, at, v), subject.x)[:2])[0]
    y, gradients = evaluate(way, subject.params, subject.x)
    c = np.random.default_rng(3).normal(size=y.shape)
    slope = np.vdot((away(h) - away(-h)) / (2 * h), c)
    along = sum(map(np.vdot, jax.tree.leaves(gradients), jax.tree.leaves(v)))
    np.testing.assert_allclose(along, slope, rtol=0.01, atol=0.02)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_is_near_and_keeps_its_dtype(subject, dtype):
    low = dataclasses.replace(subject, module=subject.module.clone(dtype=dtype))
    x = subject.x.astype(jnp.dtype(dtype)) if subject.real else subject.x
    wanted = evaluate(whole(subject, BOTH), subject.params, subject.x)
    if dtype == "float16":
        y, _ = call(apply, low.module, subject.params, x, None, *parse(BOTH))
        close(y, wanted[0], tolerance=0.02)
    else:
        y, gradients = evaluate(whole(low, BOTH), subject.params, x)
        close((y, gradients), wanted, tolerance=0.1)
        assert like(gradients) == like((subject.params, x)[: len(gradients)])
    assert y.dtype == (dtype if subject.real else "float32")  # logits are float32


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_states_are_float32_and_caches_of_the_declared_dtype(subject, dtype):
    state = jax.eval_shape(functools.partial(start, subject.module.clone(dtype=dtype)), subject.params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        cache = re.search(r"_B([WS][A-Z]+|HKW)$", jax.tree_util.keystr(path))  # vectors of each token
        assert leaf.dtype in ([dtype] if cache else ["float32", "int32", "bool"]), path


@pytest.mark.parametrize("declared", ["float32", "bfloat16"])
def test_state_in_state_out_and_none_in_none_out(subject, declared):
    """With and without mask and reset, with any dtype of the input, in any declared dtype."""
    mask, reset = parse(BOTH)
    module = subject.module.clone(dtype=declared)
    fresh = jax.eval_shape(functools.partial(start, module), subject.params)
    for dtype in ("float32", "bfloat16", "float16") if subject.real else ("int32",):
        x = subject.x.astype(jnp.dtype(dtype))
        out = x if subject.real else jax.ShapeDtypeStruct((B, L, V), "float32")
        for state, *flags in itertools.product([None, fresh], [None, mask], [None, reset]):
            y, after = jax.eval_shape(functools.partial(apply, module), subject.params, x, state, *flags)
            assert like((y, after)) == like((out, state))


def test_jit_changes_nothing_and_neither_does_a_mask_without_padding(subject):
    _, reset = parse(PACKED)
    y, _ = apply(subject.module, subject.params, subject.x, None, None, reset)
    close(y, whole(subject, PACKED)(subject.params, subject.x)[0])


def test_all_entries_make_the_same_parameters(subject):
    init = lambda method: functools.partial(subject.module.init, jax.random.key(1), method=method)
    with_state = init(lambda module, x: module(x, module.init_state(B)))
    assert like(jax.eval_shape(with_state, subject.x)) == like(subject.initial)
    by_step = jax.jit(init(lambda module, x: module.step(x, module.init_state(B))))(subject.x[:, 0])
    jax.tree.map(np.testing.assert_array_equal, by_step, subject.initial)


# An argument that does not fit, what the error must say it got, and what it wanted.
grow = lambda a, axis: np.concatenate([a, np.take(a, [0], axis)], axis)
ones_BL = np.ones((B, L), bool)
WRONG = {
    "width or rank": (lambda s: dict(x=grow(s.x, 2) if s.real else s.x[..., None]), "[5, 6, ", "wants [B, L, 8]"),
    "dtype": (lambda s: dict(x=s.x.astype("int32" if s.real else "float32")), "32[5, 6", "wants"),
    "no time axis": (lambda s: dict(x=s.x[:, 0]), "[5, 8]", "wants [B, L, 8]"),
    "no tokens": (lambda s: dict(x=s.x[:, :0]), "[5, 0", "at least one row and one token"),
    "no rows": (lambda s: dict(x=s.x[:0]), "[0, ", "at least one row and one token"),
    "mask length": (lambda s: dict(mask=grow(ones_BL, 1)), "bool[5, 7]", "wanted bool[5, 6]"),
    "mask batch": (lambda s: dict(mask=ones_BL[:1]), "bool[1, 6]", "wanted bool[5, 6]"),
    "mask rank": (lambda s: dict(mask=ones_BL[0]), "bool[6]", "wanted bool[5, 6]"),
    "mask dtype": (lambda s: dict(mask=ones_BL.astype("int32")), "int32[5, 6]", "wanted bool[5, 6]"),
    "reset length": (lambda s: dict(reset=grow(ones_BL, 1)), "reset_BL is bool[5, 7]", "wanted bool[5, 6]"),
    "reset dtype": (lambda s: dict(reset=ones_BL.astype("int8")), "reset_BL is int8[5, 6]", "wanted bool[5, 6]"),
    "state batch": (lambda s: dict(state=jax.tree.map(lambda a: grow(a, 0), s.fresh())), "[6, ", "wants"),
    "state of another cell": (lambda s: dict(state={"alien": jnp.zeros((B, D))}), "alien", "wants"),
    "state dtype": (
        lambda s: dict(state=jax.tree.map(lambda a: np.zeros_like(a, "float16"), s.fresh())),
        "float16",
        "wants",
    ),
    "state not an array": (lambda s: dict(state=3), "int32[]", "wants"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused(subject, case):
    wrong, got, wanted = WRONG[case]
    arguments = dict(x=subject.x) | wrong(subject)
    with pytest.raises(ValueError) as error:
        jax.eval_shape(functools.partial(apply, subject.module), subject.params, **arguments)
    assert got in str(error.value) and wanted in str(error.value)


@only(CACHED)
def test_a_full_cache_is_never_silent(subject):
    """NaN from the first token that finds no room to the end of its document, and no further."""
    forward = functools.partial(call, apply, subject.module, subject.params)
    x, (wanted, _) = subject.x, subject(subject.params, subject.x)
    going_on = np.zeros((B, L), bool)
    _, state = forward(x, subject.fresh(), ones_BL, going_on)
    # Tokens 6 and 7, then two that find no room, then the first two of a new document.
    reset = parse(["xxxxRx"] * B)[1]
    y, state = forward(np.concatenate([x[:, :4], x[:, :2]], axis=1), state, ones_BL, reset)
    assert np.all(np.isfinite(y[:, :2])) and np.all(np.isnan(y[:, 2:4]))
    close(y[:, 4:], wanted[:, :2])
    y, _ = forward(np.roll(x, -2, axis=1), state, ones_BL, going_on)
    close(y[:, :4], wanted[:, 2:])


@only(CACHED)
def test_more_tokens_than_the_context_are_refused(subject):
    x = np.concatenate([subject.x, subject.x], axis=1)[:, : CONTEXT + 1]
    with pytest.raises(ValueError, match=r"9 tokens, mixer\.max_length=8 is smaller: raise"):
        jax.eval_shape(functools.partial(apply, subject.module), subject.params, x)


# ---- The laws of what reads a second sequence.


SECOND = np.isin(np.array([list(row) for row in [".xxx", "xx..", "x..x", "xxxx", "...."]]), "x")


def read(module, params, second, second_mask, x, mask, reset):
    """The output, of parameters and the second sequence."""
    params, inner = {"params": params["params"]["inner"]}, module.make()
    state = inner.apply(params, second, second_mask, method="prefill")
    return apply(inner, params, x, state, mask, reset)[0]


def reading(subject):
    """The way to run a subject of which x is the second sequence, with its mask."""

    def way(params, second):
        y, back = pull(read, subject.module, params, second, SECOND, subject.x, *parse(BOTH))
        return y, lambda c: back(c)[:2]

    return way


def seconds(subject):
    """B second sequences."""
    draw = np.random.default_rng(6)
    if issubclass(subject.module.make.func, seq2seq.Model):
        return draw.integers(0, V, (B, S), np.int32)
    return draw.normal(size=(B, S, D)).astype("float32")


@only(READERS)
def test_what_is_masked_in_a_second_sequence_is_not_there(subject):
    """Row by row the same as without it, values and gradients; what stands there gets none."""
    second = seconds(subject)
    real = jnp.issubdtype(second.dtype, jnp.floating)
    noise, nothing = second.copy(), second.copy()
    noise[~SECOND], nothing[~SECOND] = np.nan if real else 10**6, 0
    y, gradients = evaluate(reading(subject), subject.params, noise)
    assert all(np.all(np.isfinite(a)) for a in jax.tree.leaves((y, gradients)))
    close((y, gradients), evaluate(reading(subject), subject.params, nothing))
    if real:
        assert not np.any(gradients[1][~SECOND])
    for row in range(B - 1):  # the last has an empty one
        flags = (flag[row : row + 1] for flag in parse(BOTH))
        alone = second[row : row + 1, SECOND[row]]
        close(call(read, subject.module, subject.params, alone, None, subject.x[row : row + 1], *flags)[0], y[row])


@only(READERS)
def test_each_row_reads_all_of_its_own_second_sequence(subject):
    second, somebody_B = seconds(subject), parse(BOTH)[0].any(axis=1)
    y, _ = reading(subject)(subject.params, second)
    for row, place in np.ndindex(B, S):
        other = second.copy()
        other[row, place] = (other[row, place] + 1) % V
        moved_B = np.any(reading(subject)(subject.params, other)[0] != y, axis=(1, 2))
        np.testing.assert_array_equal(moved_B, (np.arange(B) == row) & SECOND[row, place] & somebody_B)


@only(READERS)
def test_there_is_no_beginning_without_a_second_sequence(subject):
    module = subject.module.make()
    with pytest.raises(ValueError, match="prefill"):
        module.init_state(B)
    with pytest.raises(ValueError, match="prefill"):
        jax.eval_shape(functools.partial(module.init, jax.random.key(0)), subject.x)
