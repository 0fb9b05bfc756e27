"""N-gram models as classifiers: a language model and a prior per class, masks, resets, sizes, and what they refuse."""

import functools
import itertools

import jax
import launch
import numpy as np
import pytest
from built import classes, logits
from gradients import init, run

from seqjax import spec
from seqjax.models.markov import Markov
from seqjax.search import match
from seqjax.training import history
from seqjax.training.experiment import Experiment, resolve
from seqjax.types import CheckpointError

V, C, N, B, L = 5, 3, 2, 4, 8
DRAW = np.random.default_rng(0)
WORDS = [DRAW.geometric(0.3 + 0.1 * (d % C), 12) % V for d in range(30)]
LABELS = [0 if d > 20 else d % C for d in range(30)]  # classes of different sizes
X = DRAW.integers(0, V, (B, L), dtype=np.int32)
MASK = DRAW.random((B, L)) < 0.7
MASK[0], MASK[-1] = True, False  # a full row, and an empty one
RESET = np.zeros((B, L), bool)
RESET[:, 3] = True
FLAGS = dict(mask_BL=MASK, reset_BL=RESET)


def documents(words=WORDS, labels=LABELS):
    start_M = [t == 0 for word in words for t in range(len(word))]
    return np.concatenate(words), np.array(start_M), np.repeat(labels, list(map(len, words)))


@functools.cache
def classifier(smoothing="witten_bell", order=N, documents=documents):
    return Markov(
        inputs=spec.tokens(V, classes=C), head=classes(C), order=order, smoothing=smoothing, documents=documents
    )


@functools.cache
def fitted(*options):
    return init(classifier(*options), X)


def scored(x=X, *options, **flags):
    return run(classifier(*options), fitted(*options), x, **flags)[0]


def probability(smoothing, words, h, v):
    """p(v | h), counted in words with their starts (V) by running through them."""
    k = len(h)
    next_ = [w[i + k] for w in words for i in range(len(w) - k) if w[i : i + k] == h and w[i + k] != V]
    if h and not next_:
        return probability(smoothing, words, h[1:], v)
    if smoothing == "additive":
        return (next_.count(v) + 1) / (len(next_) + V)
    lower = probability(smoothing, words, h[1:], v) if h else 1 / V
    return (next_.count(v) + len(set(next_)) * lower) / (len(next_) + len(set(next_)))


@pytest.mark.parametrize("smoothing", ["witten_bell", "additive"])
def test_its_logits_are_those_of_a_loop(smoothing):
    """Over classes, documents and real tokens, with counts of the text itself."""
    wanted = np.zeros((B, C))
    for c in range(C):
        words = [[V, *word.tolist()] for word, label in zip(WORDS, LABELS, strict=True) if label == c]
        for b in range(B):
            wanted[b, c] = np.log(len(words) / len(WORDS))
            s = [V]
            for t in np.flatnonzero(MASK[b]):
                s = [V] if RESET[b, t] else s
                wanted[b, c] += np.log(probability(smoothing, words, s[-N:], X[b, t]))
                s.append(X[b, t])
    np.testing.assert_allclose(scored(X, smoothing, **FLAGS), wanted, rtol=1e-5)


@pytest.mark.parametrize("smoothing", ["witten_bell", "stupid_backoff"])
def test_a_class_is_the_language_model_of_its_documents(smoothing):
    """All but the first token, which a language model does not predict."""
    tokens_M, start_M, label_M = documents()
    first = MASK & (np.cumsum(MASK, axis=1) == 1)
    got = scored(X, smoothing, mask_BL=MASK) - scored(X, smoothing, mask_BL=first)
    for c in range(C):
        mine = label_M == c
        model = Markov(
            inputs=spec.tokens(V),
            head=logits(V),
            order=N,
            smoothing=smoothing,
            documents=lambda mine=mine: (tokens_M[mine], start_M[mine], None),
        )
        log_p_BLV = run(model, init(model, X), X, mask_BL=MASK)[0]
        for b in range(B):
            real = np.flatnonzero(MASK[b])
            wanted = sum(log_p_BLV[b, t, X[b, u]] for t, u in itertools.pairwise(real))
            assert got[b, c] == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def test_what_is_masked_does_not_exist():
    other = np.where(MASK, X, (X + 1) % V)
    np.testing.assert_array_equal(scored(X, **FLAGS), scored(other, **FLAGS))
    row = X[1:2][MASK[1:2]][None]
    assert 0 < row.shape[1] < L
    np.testing.assert_allclose(scored(X, mask_BL=MASK)[1:2], scored(row), rtol=1e-5)


def test_an_empty_row_has_the_prior_of_train():
    np.testing.assert_allclose(np.exp(scored(X, mask_BL=MASK)[-1]), np.bincount(LABELS) / 30, rtol=1e-5)


def test_documents_of_a_row_add_up():
    head, tail = scored(X[:, :3]), scored(X[:, 3:])
    np.testing.assert_allclose(scored(X, reset_BL=RESET), head + tail - fitted()["params"]["prior"][None], rtol=1e-5)


def test_without_contexts_it_is_naive_bayes():
    tokens_M, _, label_M = documents()
    count_CV = np.stack([np.bincount(tokens_M[label_M == c], minlength=V) for c in range(C)])
    log_p_CV = np.log((count_CV + 1) / (count_CV + 1).sum(axis=1, keepdims=True))
    prior_C = np.log(np.bincount(LABELS) / 30)
    wanted = prior_C + np.stack([log_p_CV[:, row].sum(axis=1) for row in X])
    np.testing.assert_allclose(scored(X, "additive", 0), wanted, rtol=1e-5)


def test_it_has_no_state():
    model = classifier()
    with pytest.raises(ValueError, match="Markov has no state: it reads whole sequences"):
        model.init_state(B)
    with pytest.raises(ValueError, match="Markov has no state: it reads whole sequences"):
        model.apply(fitted(), X, {"tokens_BN": np.zeros((B, N), np.int32), "count_B": np.zeros(B, np.int32)})
    assert not model.cuttable


def test_a_class_without_documents_is_refused():
    labels = [2 * (label > 0) for label in LABELS]
    with pytest.raises(ValueError, match="class 1 has no document in train"):
        jax.eval_shape(classifier(documents=lambda: documents(labels=labels)).init, jax.random.key(0), X)


def test_the_class_with_too_little_data_for_kneser_ney_is_named():
    words, labels = [*WORDS, *[np.array([0, 1])] * 2], [*[label // 2 for label in LABELS], 2, 2]
    few = classifier("kneser_ney", 1, lambda: documents(words, labels))
    with pytest.raises(ValueError, match=r"class 2: .* of kneser_ney: choose .* model.smoothing='witten_bell'"):
        jax.eval_shape(few.init, jax.random.key(0), X)


# ---- In a run


ROWS = {"train": ["aab,x", "abb,x", "ba,y", "bba,y", "ab,y"], "validation": ["aa,x", "b,y"]}


def experiment(folder, rows):
    data = {"name": "table", "text": "text", "label": "class"}
    for split, lines in rows.items():
        (folder / f"{split}.csv").write_text("\n".join(["text,class", *lines]))
        data[split] = str(folder / f"{split}.csv")
    model = {"name": "markov", "order": 2, "smoothing": "witten_bell"}
    tree = launch.tiny("train.steps=1", "learner=fixed", "task=classification", "loader.batch_size=2")
    return Experiment(resolve(tree | {"data": data, "model": model, "optim": {}}))


def test_its_size_is_the_number_of_n_grams_of_all_classes_and_of_classes(tmp_path):
    e = experiment(tmp_path, ROWS)
    grams = set()
    for line in ROWS["train"]:
        text, _, label = line.partition(",")
        s = f"^{text}"
        grams |= {(label, s[t - k : t + 1]) for t in range(1, len(s)) for k in (1, 2) if k <= t}
    assert match.parameters(e) == len(grams) + 2 * e.source.spec.vocabulary + 2


def test_other_classes_of_the_same_texts_are_refused(tmp_path):
    """Also if the first batch has none of the texts whose classes have changed."""
    saved = history.fingerprint(experiment(tmp_path, ROWS))
    swapped = {**ROWS, "train": ["aab,y", "abb,x", "ba,x", "bba,y", "ab,y"]}
    now = {**saved, "labels": history.fingerprint(experiment(tmp_path, swapped))["labels"]}
    history.check_data({key: saved[key] for key in saved if key != "labels"}, now, "")  # of an older version
    with pytest.raises(CheckpointError, match="the classes of the texts that were counted have changed: restore"):
        history.check_data(saved, now, "")
