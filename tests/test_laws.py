"""Every mixer, and every causal model built of mixers, holds the laws of `seqjax.testing.laws`. Values and gradients.

`subjects` says who must hold them. All laws share a few compiled programs, of which each subject may have `BUDGET`.
"""

import functools

import jax
import numpy as np
import programs
import pytest
from gradients import close
from subjects import CACHED, DAILY, FIRST, READERS, SUBJECTS
from ways import each, marks, of

from seqjax.testing import laws, ways
from seqjax.testing.rows import LAYOUT, RESET, B

pytestmark = pytest.mark.usefixtures("compile_once")

BUDGET = 8  # programs: init, begin, bare, all layouts, two lengths of chunks, steps, low precision
READING = 2  # more of what reads a second sequence, for the laws of that
FEW = {"low-precision": FIRST}  # who must hold a law: the others take the same paths in other dtypes
HELD = [
    pytest.param(name, law, id=f"{name}-{law}", marks=marks(name, DAILY))
    for name, module in SUBJECTS.items()
    for law in laws.LAWS
    if law.compiles and law.unless(laws.Subject(module)) is None and name in FEW.get(law.name, SUBJECTS)
]


@pytest.fixture(scope="module")
def subject(request):
    return of(request.param)


@pytest.mark.parametrize(("subject", "law"), HELD, indirect=["subject"])
def test_a_subject_holds_a_law(subject, law):
    law.hold(subject)


def test_no_law_is_left_out():
    """What a law needs to apply, some subject has: a cache that can be filled, say, and each one that has a cache."""
    tried = {param.values[1].name: set() for param in HELD}
    for param in HELD:
        tried[param.values[1].name].add(param.values[0])
    others = {"sees-all"}  # tests/mixers/test_bidirectional.py
    assert {law.name for law in laws.LAWS if law.compiles} == tried.keys() | others
    assert tried["full-cache"] == set(CACHED) and tried["second-masked"] == tried["second-read"] == set(READERS)
    assert tried["slopes"] == tried["chunks"] == set(SUBJECTS)


# ---- What they cost.


@pytest.mark.parametrize("subject", each(SUBJECTS, DAILY), indirect=True)
def test_a_subject_compiles_few_programs(subject, request):
    """All laws above together: a new one shares them, or is a law of some subjects only."""
    name = request.node.callspec.params["subject"]
    assert programs.subjects[request.node.location[0], name] <= BUDGET + READING * (name in READERS)


@pytest.mark.parametrize("name", each(["gru", "attention-2", "stack(gru)"]))
def test_without_jit_nothing_changes(name):
    """Nor do parameters, where it is `step` that makes them."""
    subject = of(name)
    y, _ = ways.apply(subject.module, subject.params, subject.x, None, None, RESET)
    plain = np.array([letters.count(".") + letters.count("r") == 0 for letters in LAYOUT])
    close(y[plain], ways.whole(subject)(subject.params, subject.x)[0][plain])
    first = lambda module, x: module.step(x, module.init_state(B))
    by_step = jax.jit(functools.partial(subject.module.init, jax.random.key(1), method=first))(subject.x[:, 0])
    jax.tree.map(np.testing.assert_array_equal, by_step, subject.initial)
