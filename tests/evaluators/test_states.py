"""The evaluator that shows hidden states: of a chain whose states can be seen, a loop over the data says the same."""

import dataclasses
import itertools
import json

import jax
import launch
import numpy as np
import pytest
from built import classes, logits

from seqjax import spec
from seqjax.data import Loader, Source
from seqjax.evaluators import states
from seqjax.heads.density import Density
from seqjax.models.gmm import GMM
from seqjax.models.hmm import HMM
from seqjax.tasks.classification import Classification
from seqjax.tasks.density import Density as DensityTask
from seqjax.tasks.next_token import NextToken
from seqjax.tasks.tag import Tag
from seqjax.training.parallel import Parallel
from seqjax.training.records import States
from seqjax.types import Count

pytestmark = pytest.mark.usefixtures("compile_once")

K, V, LENGTH = 3, 4, 9
SYMBOLS = ("a", "' '", r"'\n'")  # as they are shown


@dataclasses.dataclass(kw_only=True)
class Words(Source):
    """Rows of several lengths over `a`, a blank and a line break (never `z`), with a class; a token is its own tag."""

    count: Count = 7
    classes = ("even", "odd", "?")  # of labels, and of tags

    def __post_init__(self):
        super().__post_init__()
        plain = spec.tokens(V, LENGTH, classes=2, splits=("train", "validation"), unit="letter")
        self.spec = dataclasses.replace(plain, fields={**plain.fields, "tags": spec.Field("ids", size=K)})

    def size(self, split):
        return self.count

    def example(self, split, index):
        draw = np.random.default_rng(index)
        tokens = np.repeat(draw.integers(0, K, LENGTH), draw.integers(1, 4, LENGTH))[: 3 + index % (LENGTH - 2)]
        return {"tokens": np.int32(tokens), "tags": np.int32(tokens), "label": np.int32(index % 2)}

    def decode(self, ids):
        return "".join("a \nz"[i] for i in ids)


@dataclasses.dataclass(kw_only=True)
class Vectors(Words):
    """The same rows as vectors."""

    def __post_init__(self):
        super().__post_init__()
        self.spec = spec.features(V, LENGTH, splits=("train", "validation"))

    def example(self, split, index):
        return {"features": np.eye(V, dtype=np.float32)[super().example(split, index)["tokens"]]}


SOURCE = Words()
ROWS = [SOURCE.example("validation", i) for i in range(SOURCE.count)]


def seen(model, params):
    """Parameters with which state k emits the id k, but in a thousandth of the cases."""
    shape = params["emission"]["logits"].shape
    return params | {"emission": {"logits": np.tile(9.0 * np.eye(K, V, dtype=np.float32), (shape[0] // K, 1))}}


def look(task, head, step=5, **options):
    """What is written about a model that is seen through, its parameters, and the model."""
    model = HMM(inputs=SOURCE.spec, head=head, **options)
    params = seen(model, jax.device_get(model.init(jax.random.key(0), ROWS[0]["tokens"][None])["params"]))
    of = dict(source=SOURCE, loader=Loader(batch_size=4, buckets=(4, LENGTH), places=16), seed=0)
    return written(states.States(model=model, task=task(spec=SOURCE.spec), **of), params, step), params, model


def written(evaluator, params, step=5, stop=False):
    files, done = {}, []
    over = evaluator.over("validation", Parallel().layout(4, 1))
    found = over(params, step, on_batch=done.append, give_up=lambda: stop, write=files.__setitem__)
    assert found == (None if stop else {}) and done == [*range(1, 1 + (1 if stop else over.count))]
    return [States(**row) for row in json.loads(json.dumps(files["states.json"]))] if files else None


def runs(rows):
    """Each run of equal tokens: (token, length)."""
    return [(k, len([*same])) for row in rows for k, same in itertools.groupby(row["tokens"].tolist())]


def check(found, rows):
    """Shares and visits are those of the tokens, which are the states; the path and the posterior follow them."""
    tokens = np.concatenate([row["tokens"] for row in rows])
    np.testing.assert_allclose(found.share, np.bincount(tokens, minlength=K) / len(tokens), atol=1e-4)
    for k, visits in enumerate(found.visits):
        assert visits == [runs(rows).count((k, n)) for n in range(1, 1 + max(n for _, n in runs(rows)))]
    example = next(row["tokens"] for row in rows if len(row["tokens"]) == len(found.path))
    assert found.path == example.tolist() and found.tokens == [SYMBOLS[i] for i in example]
    assert np.argmax(found.posterior, axis=0).tolist() == found.path
    np.testing.assert_allclose(np.sum(found.posterior, axis=0), 1, atol=1e-3)
    assert (found.split, found.step, found.unit, found.total) == ("validation", 5, "letter", K)


def test_a_language_model_shows_what_its_states_are():
    (found,), params, model = look(NextToken, logits(V), states=K)
    check(found, ROWS)
    start_CK, transition_CKK = model.moves.log_p(*model.logits_of(params))
    np.testing.assert_allclose(found.start, np.exp(start_CK[0]), atol=1e-6)
    np.testing.assert_allclose(found.transition, np.exp(transition_CKK[0]), atol=1e-6)
    assert found.states == ["0", "1", "2"] and found.name == ""
    assert found.emits == [f"{symbol} 100%" for symbol in SYMBOLS]


def test_each_class_shows_its_own_states_on_its_own_examples():
    found, *_ = look(Classification, classes(2), states=K)
    assert [of.name for of in found] == ["even", "odd"]
    for c, of in enumerate(found):
        check(of, ROWS[c::2])
    assert found[0].transition != found[1].transition


def test_a_tagger_names_its_states():
    (found,), *_ = look(Tag, logits(K))
    assert found.states == ["even", "odd", "?"] and found.name == ""
    check(found, ROWS)


def test_of_many_states_the_most_frequent_are_written(monkeypatch):
    monkeypatch.setattr(states, "SHOWN", 2)
    (found,), *_ = look(NextToken, logits(V), states=K)
    count_K = np.bincount(np.concatenate([row["tokens"] for row in ROWS]), minlength=K)
    kept = sorted(np.argsort(-count_K)[:2].tolist())
    assert found.states == [str(k) for k in kept] and found.total == K
    assert np.shape(found.transition) == (2, 2) and np.shape(found.posterior)[0] == len(found.emits) == 2
    example = next(row["tokens"] for row in ROWS if len(row["tokens"]) == len(found.path))
    assert found.path == [kept.index(k) if k in kept else -1 for k in example]


def test_a_mixture_says_what_it_emits_and_an_evaluation_that_is_given_up_writes_nothing():
    source = Vectors()
    inputs = source.spec
    model = GMM(inputs=inputs, head=lambda **given: Density(outputs=1, **given))
    params = jax.device_get(model.init(jax.random.key(0), np.zeros((1, 3, V), np.float32))["params"])
    of = dict(task=DensityTask(spec=inputs), source=source, loader=Loader(batch_size=4), seed=0)
    (found,) = written(states.States(model=model, **of), params)
    assert found.emits[0].startswith("12% (feature 0: ") and found.emits[0].endswith("and 2 more")
    assert not (found.transition or found.visits or found.posterior or found.share)
    chain = HMM(inputs=SOURCE.spec, head=logits(V), states=K)
    params = chain.init(jax.random.key(0), ROWS[0]["tokens"][None])["params"]
    of = dict(task=NextToken(spec=SOURCE.spec), source=SOURCE, loader=Loader(batch_size=4), seed=0)
    assert written(states.States(model=chain, **of), params, stop=True) is None


def test_a_model_without_hidden_states_is_refused(tmp_path):
    file = launch.write(tmp_path / "c.json", launch.tiny() | {"evaluators": "states"})
    done = launch.main("train", "--config", file, "--dry_run")
    assert done.code == 2 and "Stack has no hidden states to show: remove the evaluator 'states'" in done.err
