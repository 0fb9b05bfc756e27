"""The benchmark of conditional random fields: the opponents compute what ours computes."""

import jax
import numpy as np
import pytest

from benchmarks import crf

SIZES = dict(B=3, L=7, C=4)


def found(build):
    with jax.numpy_rank_promotion("allow"):
        return build(**SIZES).call()


def test_opponents_compute_the_same():
    same = lambda got, wanted: np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
    jax.tree.map(same, found(crf.plain), found(crf.ours))


def test_torch_computes_the_same():
    pytest.importorskip("torch")
    _, gradients = found(crf.ours)
    for got, wanted in zip(found(crf.torch), gradients, strict=True):
        np.testing.assert_allclose(got.cpu(), wanted, rtol=1e-4, atol=1e-5)
