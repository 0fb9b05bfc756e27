"""The subjects of the laws in tests: found by name, made once, and one worker for each."""

import functools

import programs
import pytest
from subjects import SUBJECTS

from seqjax.testing.laws import Subject


def each(names, daily=()):
    """Parameters; all tests of one stay on one worker, and use the same programs. Others than `daily` are slow."""
    return [pytest.param(name, marks=marks(name, daily)) for name in names]


def marks(name, daily=()):
    """The marks of one subject."""
    return [pytest.mark.xdist_group(name), *[pytest.mark.slow] * bool(daily and name not in daily)]


def only(names, daily=()):
    return pytest.mark.parametrize("subject", each(names, daily), indirect=True)


@functools.lru_cache(1)  # pytest makes a fixture anew where a test has other subjects than the one before
def of(name):
    """A subject whose programs are compiled."""
    programs.forget()
    return Subject(SUBJECTS[name])


@functools.cache
def shape_of(name):
    """A subject of which only shapes are read: nothing is compiled for it."""
    return Subject(SUBJECTS[name])
