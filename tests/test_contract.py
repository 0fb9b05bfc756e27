"""The laws that need no numbers: shapes, dtypes, parameters and refusals. Nothing is compiled."""

import functools
import itertools

import jax
import numpy as np
import pytest
from subjects import ATTENTION, AXES, CACHED, CONTEXT, MIXERS, READERS, SUBJECTS, D, V, mixer, model
from ways import each, only, shape_of

from seqjax.testing import laws
from seqjax.testing._shapes import CALLS, MISFITS, fresh, grow, like
from seqjax.testing.rows import MASK, RESET, B, L
from seqjax.testing.ways import apply, start, step


@pytest.fixture(scope="module", params=each(SUBJECTS))
def subject(request):
    return shape_of(request.param)


def pairs(rows):
    """All pairs of (column, value) that stand in one of the rows."""
    return {pair for row in rows for pair in itertools.combinations(row.items(), 2)}


def test_all_pairs_of_options_of_attention_are_tested():
    """But for scores that are held, which attention in blocks does not compute."""
    rows = [{name: of(options) for name, of in AXES.items()} for options in ATTENTION]
    values = {name: {row[name] for row in rows} for name in AXES}
    every = pairs(dict(zip(values, choice, strict=True)) for choice in itertools.product(*values.values()))
    assert every - pairs(rows) == {(("backend", "blockwise"), ("scores", "held"))}
    assert all(len(found) > 1 for found in values.values())
    with pytest.raises(ValueError, match="blockwise"):
        mixer("attention", dict(score="additive", backend="blockwise"))(width=D)


@pytest.mark.parametrize("law", [law for law in laws.LAWS if not law.compiles and law.name != "no-state"], ids=str)
def test_a_subject_holds_a_law(subject, law):
    """Those of states and caches, dtypes, parameters and refusals."""
    law.hold(subject)


def test_calls_hold_all_pairs():
    columns = [dict(enumerate(call)) for call in CALLS]
    every = itertools.product(*(sorted({call[i] for call in CALLS}) for i in range(5)))
    assert pairs(columns) == pairs(dict(enumerate(call)) for call in every)


@pytest.mark.parametrize("name", MIXERS)
def test_every_mixer_makes_a_model(name):
    """Layers do not know which mixer they hold: for values and gradients, a few models in `subjects` stand for all."""
    module, x = laws.Subject(model(name)).module, np.zeros((B, L), np.int32)
    params = jax.eval_shape(module.init, jax.random.key(0), x)
    fresh = jax.eval_shape(functools.partial(start, module), params)
    logits = jax.ShapeDtypeStruct((B, L, V), "float32")
    for state, flags in ((None, (None, None)), (fresh, (MASK, RESET))):
        got = jax.eval_shape(functools.partial(apply, module), params, x, state, *flags)
        assert like(got) == like((logits, state))
    got = jax.eval_shape(functools.partial(step, module), params, x[:, 0], fresh, MASK[:, 0], RESET[:, 0])
    assert like(got) == like((jax.ShapeDtypeStruct((B, V), "float32"), fresh))


# ---- Refusals. An argument that does not fit, what the error must say it got, and what it wanted.


ones_BL = np.ones((B, L), bool)
WRONG = {
    "width or rank": (MISFITS["width or rank"], "[20, 6, ", "wants {x}"),
    "dtype": (lambda s: dict(x=s.x.astype("int32" if s.real else "float32")), "32[20, 6", "wants"),
    "no time axis": (lambda s: dict(x=s.x[:, 0]), "{no_time}", "wants {x}"),
    "no tokens": (lambda s: dict(x=s.x[:, :0]), "[20, 0", "at least one row and one token"),
    "no rows": (lambda s: dict(x=s.x[:0]), "[0, ", "at least one row and one token"),
    "mask length": (MISFITS["mask length"], "bool[20, 7]", "wanted bool[20, 6]"),
    "mask batch": (lambda s: dict(mask=ones_BL[:1]), "bool[1, 6]", "wanted bool[20, 6]"),
    "mask rank": (lambda s: dict(mask=ones_BL[0]), "bool[6]", "wanted bool[20, 6]"),
    "mask dtype": (lambda s: dict(mask=ones_BL.astype("int32")), "int32[20, 6]", "wanted bool[20, 6]"),
    "reset length": (lambda s: dict(reset=grow(ones_BL, 1)), "reset_BL is bool[20, 7]", "wanted bool[20, 6]"),
    "reset dtype": (MISFITS["reset dtype"], "reset_BL is int8[20, 6]", "wanted bool[20, 6]"),
    "state batch": (MISFITS["state batch"], "[21, ", "wants"),
    "state of another cell": (lambda s: dict(state={"alien": np.zeros((B, D))}), "alien", "wants"),
    "state dtype": (
        lambda s: dict(state=jax.tree.map(lambda a: np.zeros_like(a, "float16"), fresh(s))),
        "float16",
        "wants",
    ),
    "state not an array": (lambda s: dict(state=3), "int32[]", "wants"),
}


TOKENS = dict(x="[B, L] integers", no_time=f"int32[{B}]")


def refuse(subject, case):
    wrong, got, wanted = WRONG[case]
    arguments = dict(x=subject.x) | wrong(subject)
    with pytest.raises(ValueError) as error:
        jax.eval_shape(functools.partial(apply, subject.module), subject.shapes, **arguments)
    real = dict(x=f"[B, L, {D}]", no_time=f"[{B}, {D}]")
    got, wanted = (words.format(**real if subject.real else TOKENS) for words in (got, wanted))
    assert got in str(error.value) and wanted in str(error.value)


def checker(name):
    """What looks at the arguments of a subject."""
    kind = type(SUBJECTS[name])
    return getattr(kind, "check", kind.__call__)


CHECKERS = {checker(name): name for name in reversed(SUBJECTS)}  # one subject for each


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("name", CHECKERS.values())
def test_what_does_not_fit_is_refused(name, case):
    refuse(shape_of(name), case)


def test_everything_checks_its_arguments(subject):
    """What the check refuses is above, once for all that share it."""
    for case in ("width or rank", "mask length", "reset dtype", "state batch"):
        refuse(subject, case)


@only(CACHED)
def test_more_tokens_than_the_context_are_refused(subject):
    x = np.concatenate([subject.x, subject.x], axis=1)[:, : CONTEXT + 1]
    with pytest.raises(ValueError, match="9 tokens, mixer\\.max_length=8 is smaller: raise"):
        jax.eval_shape(functools.partial(apply, subject.module), subject.shapes, x)


@only(READERS)
def test_there_is_no_beginning_without_a_second_sequence(subject):
    module = subject.own
    with pytest.raises(ValueError, match="prefill"):
        module.init_state(B)
    with pytest.raises(ValueError, match="prefill"):
        jax.eval_shape(functools.partial(module.init, jax.random.key(0)), subject.x)
