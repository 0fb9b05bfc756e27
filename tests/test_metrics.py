"""A metric is a sum and a weight."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.metrics import Ratio, grows, is_better


def test_ratios_add_up_to_the_whole_mean():
    values, weights = np.arange(7.0), np.array([1, 0, 2, 1, 0.5, 0, 1])
    parts = Ratio.of(values[:3], weights[:3]) + Ratio.of(values[3:], weights[3:])
    assert parts.mean() == pytest.approx(np.average(values, weights=weights))
    assert (Ratio(6, 2) + Ratio(1, 8)).mean() == 0.7


def test_what_weighs_nothing_may_be_anything():
    assert Ratio.of(jnp.array([1.0, jnp.nan, jnp.inf]), jnp.array([2.0, 0.0, 0.0])).mean() == 1


def test_nothing_counted_is_nan():
    assert math.isnan(Ratio.of(jnp.zeros(3), jnp.zeros(3)).mean())


@pytest.mark.parametrize(
    ("name", "new", "old", "better"),
    [
        ("loss", 1.0, 2.0, True),
        ("loss", 2.0, 2.0, False),
        ("accuracy", 2.0, 1.0, True),
        ("accuracy", 1.0, 2.0, False),
        ("loss", 5.0, None, True),
        ("loss", math.nan, None, False),
        ("loss", math.nan, 3.0, False),
        ("accuracy", math.inf, 0.5, False),
        ("roc_auc", 0.9, 0.8, True),
        ("roc_auc", 0.8, 0.9, False),
        ("coverage", 0.8, 0.9, False),
        ("coverage", 0.9, 0.8, False),
        ("coverage", 0.9, None, False),
    ],
)
def test_is_better(name, new, old, better):
    assert is_better(name, new, old) is better


@pytest.mark.parametrize(
    ("names", "growing"),
    [
        ("accuracy exact_match macro_f1 f1 roc_auc recall_at_5 val/BLEU my_score", True),
        ("loss bits_per_match perplexity error_rate accuracy_error negative_score my_loss", False),
        ("acuracy quality lossy scored", None),
    ],
)
def test_a_name_says_which_way_is_better(names, growing):
    for name in names.split():
        assert grows(name) is growing, name
