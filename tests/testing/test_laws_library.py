"""Each law catches the mistake that it is named for, and no other one is told; what is right holds all of them."""

import jax
import numpy as np
import pytest
from decay import Decay
from flax import linen as nn
from mistakes import MISTAKES, Changing, Half, Overflowing, Raising, Right

from seqjax.mixers.attention import Attention
from seqjax.mixers.bidirectional import Bidirectional
from seqjax.mixers.gru import GRU
from seqjax.testing import differences, laws
from seqjax.testing.rows import LAYOUT, MASK, B, L

pytestmark = pytest.mark.usefixtures("compile_once")

WIDTH = 4


def outcomes(module, **options):
    """Law -> verdict."""
    return {v.law.name: v for v in laws.check(laws.Subject(module, **options))}


def names(found, outcome):
    return [name for name, verdict in found.items() if verdict.outcome == outcome]


@pytest.mark.parametrize("kind", MISTAKES, ids=lambda kind: kind.__name__)
def test_a_mistake_breaks_the_law_that_is_named_for_it_and_no_other(kind):
    options = dict(heads=2, max_length=8) if kind is Overflowing else {}
    broken, words = MISTAKES[kind]
    found = outcomes(kind(width=WIDTH, **options))
    assert names(found, "broken") == broken
    report = found[broken[0]].text
    assert words in report and report.startswith(f"{broken[0]}: {found[broken[0]].law.sentence}. {kind.__name__}")


def test_there_is_a_mistake_for_each_law():
    """But for those of what sees later tokens, or reads a second sequence, and of parameters."""
    rest = {"no-state", "sees-all", "second-masked", "second-read", "parameters", "bare-steps"}
    assert {law.name for law in laws.LAWS} - rest == {name for broken, _ in MISTAKES.values() for name in broken}


@pytest.mark.parametrize("law", laws.of(Right(width=WIDTH)), ids=str)
def test_what_is_right_holds(law):
    """As a user would write it."""
    law()


def test_a_broken_law_fails_a_test():
    (law,) = (law for law in laws.of(Half(width=WIDTH)) if str(law) == "dtypes")
    with pytest.raises(AssertionError, match="dtypes: states are float32"):
        law()


def test_a_law_that_needs_a_broken_one_is_not_checked():
    found = outcomes(Changing(width=WIDTH))
    assert found["chunks"].outcome == "not checked" and found["chunks"].text == "only once shapes holds"


def test_an_error_of_the_mixer_is_a_sentence_and_shows_its_code():
    report = outcomes(Raising(width=WIDTH))["shapes"].text
    assert "it raised KeyError: 'no mask, please'" in report and 'raise KeyError("no mask, please")' in report
    assert "mistakes.py" in report and "site-packages" not in report and "usually" not in report


def test_which_laws_apply():
    of = lambda module, **more: {str(law) for law in laws.of(module, **more)}
    both = {"shapes", "refusals", "finite", "padding", "resets", "packing", "content", "slopes", "low-precision"}
    causal = both | {"dtypes", "parameters", "causal", "chunks", "steps", "bare-steps", "gather", "sight"}
    assert of(GRU(width=WIDTH)) == of(Decay(width=WIDTH)) == of(Attention(width=WIDTH, heads=2)) == causal
    assert of(Attention(width=WIDTH, heads=2, max_length=8)) == causal | {"full-cache"}
    assert of(GRU(width=WIDTH), tolerance=1e-3) == causal - {"slopes"}
    assert of(GRU(width=WIDTH, dtype="bfloat16")) == causal - {"slopes", "low-precision"}
    assert of(Bidirectional(width=WIDTH)) == both | {"no-state", "sees-all"}


def test_a_mixer_that_reads_a_side_input_or_is_declared_in_half_precision_holds_them():
    assert not names(outcomes(Decay(width=WIDTH)), "broken")
    assert not names(outcomes(Right(width=WIDTH, dtype="bfloat16"), tolerance=0.1), "broken")


def test_what_the_laws_cannot_be_held_against_is_refused():
    with pytest.raises(ValueError, match=r"got Dense, wanted a subclass of seqjax\.mixers\.Mixer"):
        laws.of(nn.Dense(3))


def test_the_tolerance_follows_the_precision_of_products(monkeypatch):
    assert (laws.rounding(), laws.rounding("bfloat16")) == (2e-5, 0.1)
    of = jax.numpy.asarray
    coarse = lambda a: of(np.float32(of(a).astype("bfloat16")))  # as a device that rounds what it multiplies
    monkeypatch.setattr("seqjax.testing.subject.jnp.asarray", coarse)
    assert 0.01 < laws.rounding() < 0.3


# ---- Reports.


def test_a_difference_names_row_token_and_numbers():
    wanted = np.zeros((B, L, 2), np.float32)
    got = wanted.copy()
    got[7, 3, 1], got[7, 5, 0], got[8, 0] = 0.25, np.nan, 1  # the last is masked
    lines = list(differences.tokens("the output", got, wanted, 1e-5))
    assert LAYOUT[7] == "x..x.x" and not MASK[8, 0]
    assert lines == [
        f"the output differs at 2 of {MASK.sum()} tokens:",
        "  row 7   x..x.x",
        "             ^ ^   first at token 3, feature 1: got 0.25, wanted 0",
    ]
    assert not list(differences.tokens("the output", wanted + 9e-6, wanted, 1e-5))
    assert list(differences.tokens("the output", wanted[..., :1], wanted, 1e-5)) == [
        "the output is [20, 6, 1], wanted [20, 6, 2]"
    ]


def test_a_difference_names_the_parameter():
    tree = lambda a, b: {"params": {"inner": {"kernel": np.full((2, 2), a), "bias": np.full(2, b)}}}
    lines = list(differences.leaves("the gradient by", tree(1.0, 2.0), tree(1.0, 4.0), 1e-5))
    assert lines == ["the gradient by bias differs by up to 2 (tolerance 4e-05): at [0] got 2, wanted 4"]
    assert not list(differences.leaves("the gradient by", tree(1.0, 2.0), tree(1.0, 2.0), 0))
