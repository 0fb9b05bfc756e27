"""Counts of spans on arrays, against spans as sets."""

import jax
import numpy as np
import pytest

from seqjax.ops.spans import agree
from seqjax.spans import Scheme

RNG = np.random.default_rng(0)
B, L = 300, 7
SETS = {
    "bio": ("B-x", "B-y", "I-x", "I-y", "O"),
    "bioes": ("B-x", "B-y", "E-x", "E-y", "I-x", "I-y", "O", "S-x", "S-y"),
    "bilou": ("B-x", "I-x", "I-y", "L-x", "L-y", "O", "U-y"),
}


@pytest.mark.parametrize("mode", ["strict", "lenient"])
@pytest.mark.parametrize("kind", SETS)
def test_spans_of_arrays_are_those_of_lists(kind, mode):
    scheme = Scheme.of(SETS[kind])
    actual = RNG.integers(0, len(scheme.names), (B, L))
    predicted = np.where(RNG.random((B, L)) > 0.3, actual, RNG.integers(0, len(scheme.names), (B, L)))
    real, fresh = RNG.random((B, L)) > 0.2, RNG.random((B, L)) > 0.8
    real[0] = False
    fresh &= real
    wanted = np.zeros((3, len(scheme.types)))
    for row in range(B):
        kept = np.flatnonzero(real[row])
        for part in np.split(kept, np.flatnonzero(fresh[row, kept])):
            ours, theirs = (set(scheme.spans(tags[row, part], mode)) for tags in (predicted, actual))
            for place, found in enumerate((ours & theirs, ours - theirs, theirs - ours)):
                for span in found:
                    wanted[place, scheme.types.index(span.type)] += 1
    assert wanted.min() > 0
    run = jax.jit(lambda *a: agree(getattr(scheme, mode), *a[:2], mask_BL=a[2], reset_BL=a[3]))
    np.testing.assert_array_equal(np.stack(run(predicted, actual, real, fresh | ~real)), wanted)
