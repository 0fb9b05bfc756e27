"""Evaluation counts every example once, however they fall into batches."""

import math

import jax
import numpy as np
import pytest
from built import logits

from seqjax.data import Batches, Loader, copy
from seqjax.evaluators.loss import Loss
from seqjax.mixers import gru
from seqjax.models import stack
from seqjax.tasks.next_token import NextToken
from seqjax.training.evaluate import Evaluation
from seqjax.training.parallel import Parallel
from seqjax.training.step import make_eval_step

N = 10


class Ragged(copy.Source):
    """Copy with as many symbols as the index says."""

    def example(self, split, index):
        example = super().example(split, index)
        cut = 3 + index % 5
        return {k: v[-cut:] for k, v in example.items()}

    def lengths(self, split):
        return 3 + np.arange(N) % 5


@pytest.fixture(scope="module")
def parts():
    source = Ragged(length=4, symbols=3, examples=N)
    model = stack.Model(
        inputs=source.spec, head=logits(4), width=8, layers=1, expansion=0, mixer=gru.Mixer, dropout=0.5
    )
    task = NextToken(spec=source.spec)
    params = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 2), np.int32))["params"]
    return source, model, task, params


@pytest.fixture(scope="module")
def alone(parts):
    """Metric -> mean, from a loop over examples, one at a time and unpadded but for compilation's sake."""
    source, model, task, params = parts
    step, sums = jax.jit(make_eval_step(model, task)), {}
    for index in range(N):
        batch = Batches(source, "validation", Loader(batch_size=1))[index]
        for name, ratio in step(params, batch)[0].items():
            total, weight = sums.get(name, (0, 0))
            sums[name] = total + float(ratio.total), weight + float(ratio.weight)
    return {name: total / weight for name, (total, weight) in sums.items()}


@pytest.mark.parametrize(
    "loader", [dict(batch_size=4), dict(batch_size=3, buckets=(4, 7)), dict(batch_size=64), dict(batch_size=5)]
)
def test_a_split_is_the_mean_over_its_examples(parts, alone, loader):
    source, model, task, params = parts
    loader = Loader(**loader)
    evaluator = Loss(model=model, task=task, source=source, loader=loader, seed=0)
    layout = Parallel().layout(loader.batch_size, 1)
    evaluator, seen = Evaluation([evaluator], "validation", layout, write=None), []
    result = evaluator(params, 0, lambda done, total: seen.append((done, total)))
    assert evaluator.examples == N
    assert result.keys() == alone.keys() and {"loss", "accuracy", "exact_match", "bits_per_token"} <= result.keys()
    for name in result:
        assert result[name] == pytest.approx(alone[name], rel=1e-5), name
    count = seen[-1][1]
    assert seen == [(i + 1, count) for i in range(count)]
    assert evaluator.passes[0]._step._cache_size() <= max(len(loader.buckets), 1)


def test_bits_are_nats_over_ln_two(alone):
    assert alone["bits_per_token"] == pytest.approx(alone["loss"] / math.log(2), rel=1e-6)
