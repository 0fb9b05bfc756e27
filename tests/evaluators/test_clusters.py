"""Hidden states against tags: scikit-learn, all matchings, and a loop over examples."""

import dataclasses
import functools
import itertools

import jax
import numpy as np
import pytest
from sklearn import metrics as oracle

from seqjax.data import Loader, Source
from seqjax.evaluators.clusters import Clusters, many_to_one, one_to_one, v_measure
from seqjax.heads.density import Density as Head
from seqjax.models import hmm
from seqjax.spec import Field, Spec, tokens
from seqjax.tasks.density import Density
from seqjax.training.parallel import Parallel
from seqjax.types import ConfigError

K, V, C, L, N = 3, 5, 4, 6, 7


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
def test_scores_of_a_table(shape):
    draw = np.random.default_rng(shape[0])
    state_N = draw.integers(0, shape[0], 60)
    tag_N = np.where(draw.random(60) < 0.5, state_N % shape[1], draw.integers(0, shape[1], 60))
    count_KC = np.zeros(shape)
    np.add.at(count_KC, (state_N, tag_N), 1)
    best = {k: np.bincount(tag_N[state_N == k]).argmax() for k in range(shape[0])}
    assert many_to_one(count_KC) == np.mean([best[k] == c for k, c in zip(state_N, tag_N, strict=True)])
    few, many = sorted(shape)
    count_FM = count_KC if shape[0] == few else count_KC.T
    matched = [count_FM[range(few), m].sum() for m in itertools.permutations(range(many), few)]
    assert one_to_one(count_KC) == max(matched) / 60
    assert v_measure(count_KC) == pytest.approx(oracle.v_measure_score(tag_N, state_N))


@pytest.mark.parametrize("count_KC", [np.diag([3.0, 1.0, 2.0])[[2, 0, 1]], np.array([[4.0]])])
def test_the_same_partition_is_perfect(count_KC):
    assert [of(count_KC) for of in (many_to_one, one_to_one, v_measure)] == pytest.approx([1, 1, 1])


def test_states_that_say_nothing_have_no_v_measure():
    assert v_measure(np.ones((2, 3))) == pytest.approx(0) and v_measure(np.ones((1, 3))) == 0


@dataclasses.dataclass(kw_only=True)
class Tagged(Source):
    """Random words and tags, of any length."""

    def __post_init__(self):
        self.spec = Spec(
            {"tokens": Field("ids", size=V), "tags": Field("ids", size=C)}, {"L": L}, splits=("train", "validation")
        )

    def size(self, split):
        return N

    def example(self, split, index):
        draw = np.random.default_rng(index)
        tokens_L, tags_L = draw.integers(0, [[V], [C]], (2, 1 + index % L), dtype=np.int32)
        return {"tokens": tokens_L, "tags": tags_L}


def parts():
    source = Tagged()
    model = hmm.Model(inputs=source.spec, head=functools.partial(Head, outputs=1), states=K)
    return dict(model=model, task=Density(spec=source.spec), source=source, loader=Loader(batch_size=4), seed=0)


def test_every_token_of_a_split_counts_once():
    given = parts()
    model, source, layout = given["model"], given["source"], Parallel().layout(4, 1)
    params = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 2), np.int32))["params"]
    count_KC = np.zeros((K, C))
    for example in (source.example("validation", i) for i in range(N)):
        padded_L = np.resize(example["tokens"], L)[None]
        mask_BL = np.arange(L)[None] < len(example["tokens"])
        log_p_BLK = model.apply({"params": params}, padded_L, mask_BL=mask_BL, method="smooth")
        np.add.at(count_KC, (np.argmax(log_p_BLK[mask_BL], axis=1), example["tags"]), 1)
    call = Clusters(**given).over("validation", layout)
    seen, scores = [], dict.fromkeys(Clusters.metrics)
    found = call(params, 1, on_batch=seen.append, give_up=lambda: False, write=None)
    scores |= {f"clusters_{of.__name__}": of(count_KC) for of in (many_to_one, one_to_one, v_measure)}
    assert found == pytest.approx(scores) and 0 < scores["clusters_v_measure"] < 1
    assert seen == [1, 2] and call.count == 2
    assert call(params, 1, on_batch=seen.append, give_up=lambda: True, write=None) is None


def test_what_has_no_tags_or_no_states_is_refused():
    given = parts()
    untagged = dataclasses.replace(given["source"])
    untagged.spec = tokens(V, L)
    with pytest.raises((ValueError, ConfigError), match="compares states with tags, this source has tokens: choose"):
        Clusters(**given | {"source": untagged})
    with pytest.raises((ValueError, ConfigError), match="needs a model with hidden states of tokens, got a Density"):
        Clusters(**given | {"model": given["task"]})
