"""Linear models of texts, as baselines: what counting words reaches, and how long it takes."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from seqjax import lookup
from seqjax.data._source import Baseline
from seqjax.metrics import F1, average_precision, best_thresholds, f1_of_labels

WHERE = "a linear baseline of texts"


class Data(NamedTuple):
    """A split: its texts, perhaps a second text of each, and class ids (N,) or sets of labels, bool (N, C)."""

    texts: list[str]
    sources: list[str] | None
    target: np.ndarray


def baselines(data: dict[str, Data], split: str) -> list[Baseline]:
    """The scores on a split of linear models that are trained on train.

    Raises:
      ConfigError: scikit-learn is not installed.
    """
    svm = lookup.require("sklearn.svm", "eval", WHERE)
    logistic = lookup.require("sklearn.linear_model", "eval", WHERE)
    # The dual, and not to the last digit: ten seconds in place of minutes for 77 classes.
    regression = lambda: logistic.LogisticRegression(C=10, solver="liblinear", dual=True, tol=0.1)
    if data["train"].sources is None:
        of = lambda d: d.texts
        models = {
            "TF-IDF + logistic regression": (regression, _tfidf, of),
            "TF-IDF + linear SVM": (lambda: svm.LinearSVC(C=0.5), _tfidf, of),
        }
    else:
        models = {
            "word overlap": (regression, _words, lambda d: [*map(_overlap, d.texts, d.sources)]),
            "only the text": (regression, _tfidf, lambda d: d.texts),
            "only the source": (regression, _tfidf, lambda d: d.sources),
        }
    return [_score(name, data, split, *how) for name, how in models.items()]


def _tfidf():
    """Words and pairs of words, and strings of two to five characters: each a feature if two texts have it."""
    text = lookup.require("sklearn.feature_extraction.text", "eval", WHERE)
    pipeline = lookup.require("sklearn.pipeline", "eval", WHERE)
    words = text.TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, token_pattern=r"\w+|[^\w\s]")
    characters = text.TfidfVectorizer(ngram_range=(2, 5), sublinear_tf=True, min_df=2, analyzer="char_wb")
    return pipeline.make_union(words, characters)


def _words():
    text = lookup.require("sklearn.feature_extraction.text", "eval", WHERE)
    return text.CountVectorizer(binary=True, token_pattern=r"\S+")


def _overlap(text: str, source: str) -> str:
    """The words, each with a mark for the side or sides that have it."""
    a, b = set(text.lower().split()), set(source.lower().split())
    marked = {"both": a & b, "text": a - b, "source": b - a}
    return " ".join(f"{mark}:{word}" for mark, words in marked.items() for word in sorted(words))


def _score(name: str, data: dict[str, Data], split: str, model: Callable, features: Callable, of: Callable) -> Baseline:
    several = lookup.require("sklearn.multiclass", "eval", WHERE)
    start, features = time.perf_counter(), features()
    fitted = several.OneVsRestClassifier(model()).fit(features.fit_transform(of(data["train"])), data["train"].target)
    seconds = time.perf_counter() - start
    size = sum(one.coef_.size + one.intercept_.size for one in fitted.estimators_)
    target, read = data[split].target, lambda split: features.transform(of(data[split]))
    weight_N = np.ones(len(target))
    if target.ndim == 1:
        guess_N = fitted.predict(read(split))
        one_hot = lambda label_N: label_N[:, None] == fitted.classes_[None]
        f1 = F1.of(one_hot(guess_N), one_hot(target), weight_N[:, None], axis=0)
        metrics = {"accuracy": float(np.mean(guess_N == target)), "macro_f1": f1.mean()}
        return Baseline(name, metrics, size, seconds)
    score_NC = fitted.decision_function(read(split))
    metrics = {"multi_label_average_precision": average_precision(score_NC, target)}
    chosen = {"": score_NC >= 0}
    if "validation" in data:
        best_C = best_thresholds(fitted.decision_function(read("validation")), data["validation"].target)
        chosen["multi_label_"] = score_NC >= best_C[None]
    for prefix, marks_NC in chosen.items():
        metrics |= {f"{prefix}{name}": f1.mean() for name, f1 in f1_of_labels(marks_NC, target, weight_N).items()}
    return Baseline(name, metrics, size, seconds)
