"""Metrics as sums: they add up over batches, steps and devices, and are divided only when they are reported.

A metric is a NamedTuple of float32 sums with `+` and `mean()`. So accumulation, psum and a stack of steps treat all
metrics alike, as trees of arrays.
"""

import collections
import math
import operator
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Way = Literal["more", "less"]  # which way a metric is better
ORDERS = 4  # n-grams of BLEU: 1 to 4

# Metrics of seqjax 0.1, whose run folders do not say which way is better.
FORMER: dict[str, Way] = {"loss": "less", "accuracy": "more", "exact_match": "more"}
FORMER |= {f"bits_per_{unit}": "less" for unit in ("token", "character", "byte")}


def is_better(way: Way | None, new: float, old: float | None) -> bool:
    """Whether `new` is better than `old`. Every finite value is better than None.

    The answer is False if `new` is not finite, or if it is not known which way is better (None).
    """
    if not math.isfinite(new) or way is None:
        return False
    return old is None or (new > old if way == "more" else new < old)


def best(way: Way | None, items: Iterable, value: Callable = lambda item: item):
    """The item with the best value, the first of several; None if no value is finite, or the way is not known."""
    found, top = None, None
    for item in items:
        new = value(item)
        if new is not None and is_better(way, new, top):
            found, top = item, new
    return found


def _plus(self, other):
    return type(self)(*map(operator.add, self, other))


class Ratio(NamedTuple):
    """A weighted mean that adds up exactly: `Ratio(6, 2) + Ratio(1, 8)` is 7 / 10.

    Both are float32 scalars (or numpy float64 on the host). A weight of zero means that nothing was counted.
    """

    total: jax.Array
    weight: jax.Array

    @classmethod
    def of(cls, value, weight) -> "Ratio":
        """Sums `value * weight` over all axes. A value with weight 0 has no effect, even if it is NaN."""
        weight = jnp.asarray(weight, jnp.float32)
        kept = jnp.where(weight > 0, jnp.asarray(value, jnp.float32), 0.0)
        return cls(jnp.sum(kept * weight), jnp.sum(weight))

    __add__ = _plus

    def mean(self) -> float:
        """The quotient on the host; NaN if nothing was counted."""
        weight = float(self.weight)
        return float(self.total) / weight if weight else math.nan


class Perplexity(NamedTuple):
    """exp of the weighted mean of -log p: of so many equally likely tokens the model would be as unsure."""

    total: jax.Array
    weight: jax.Array

    __add__ = _plus

    def mean(self) -> float:
        """The perplexity on the host; NaN if nothing was counted, infinity if it is beyond float64."""
        nats = Ratio(*self).mean()
        return math.exp(nats) if nats < math.log(np.finfo(np.float64).max) else nats * math.inf


class F1(NamedTuple):
    """F1 = 2 tp / (2 tp + fp + fn). If the sums are arrays with one entry per class, it is the mean over classes.

    A class that neither occurs nor is predicted is left out of the mean.
    """

    tp: jax.Array
    fp: jax.Array
    fn: jax.Array

    @classmethod
    def of(cls, predicted, actual, weight, axis=None) -> "F1":
        """Counts two bool arrays, weighted, over `axis`: None counts all axes (micro), the others are classes."""
        weight = jnp.asarray(weight, jnp.float32)
        count = lambda a: jnp.sum(jnp.where(a, weight, 0.0), axis=axis)
        return cls(count(predicted & actual), count(predicted & ~actual), count(~predicted & actual))

    __add__ = _plus

    def mean(self) -> float:
        """F1 on the host; NaN if nothing was counted."""
        tp, fp, fn = (np.asarray(a, np.float64).ravel() for a in self)
        counted = tp + fp + fn > 0
        f1 = 2 * tp[counted] / (2 * tp + fp + fn)[counted]
        return float(np.mean(f1)) if counted.any() else math.nan


class Edits(NamedTuple):
    """Error rate: insertions, deletions and substitutions per word (WER) or character (CER) of the reference."""

    errors: jax.Array
    words: jax.Array

    @classmethod
    def of(cls, hypothesis, reference) -> "Edits":
        """Counts, on the host, the fewest edits between two sequences. Levenshtein 1966."""
        row = list(range(len(reference) + 1))
        for i, word in enumerate(hypothesis, 1):
            before, row = row, [i]
            for j, wanted in enumerate(reference):
                row.append(min(before[j] + (word != wanted), before[j + 1] + 1, row[j] + 1))
        return cls(np.float32(row[-1]), np.float32(len(reference)))

    __add__ = _plus

    def mean(self) -> float:
        """Errors per word of the reference, on the host; NaN if no reference has a word."""
        return float(self.errors) / float(self.words) if self.words else math.nan


class Bleu(NamedTuple):
    """BLEU of a corpus, 0 to 1: the geometric mean of the precisions of 1- to 4-grams, times the brevity penalty.

        BLEU = min(1, exp(1 - reference / length)) * (prod_n matches_n / totals_n)^(1/4)

    Papineni et al. 2002, "BLEU: a method for automatic evaluation of machine translation".
    """

    matches: jax.Array  # (4,)
    totals: jax.Array  # (4,)
    length: jax.Array
    reference: jax.Array

    @classmethod
    def of(cls, hypothesis, reference) -> "Bleu":
        """Counts, on the host, the n-grams of a sequence, and how many of them the reference has."""
        grams = lambda words, n: collections.Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
        both = [(grams(hypothesis, n), grams(reference, n)) for n in range(1, ORDERS + 1)]
        matches = np.array([(ours & theirs).total() for ours, theirs in both], np.float32)
        totals = np.array([ours.total() for ours, _ in both], np.float32)
        return cls(matches, totals, np.float32(len(hypothesis)), np.float32(len(reference)))

    __add__ = _plus

    def mean(self) -> float:
        """BLEU on the host, 0 if an order has no match; NaN if nothing was counted."""
        if not self.reference and not self.length:
            return math.nan
        if not np.all(np.asarray(self.matches) > 0):
            return 0.0
        precision = np.exp(np.mean(np.log(self.matches) - np.log(self.totals)))
        return float(precision * min(1.0, math.exp(1 - float(self.reference) / float(self.length))))


class Histogram(NamedTuple):
    """The area under the ROC curve, from the scores of positive and negative examples in bins.

    AUC = P(score of a positive > score of a negative) + P(both are in the same bin) / 2
    """

    positive: jax.Array  # (bins,)
    negative: jax.Array  # (bins,)

    @classmethod
    def of(cls, score, positive, weight, bins: int = 1000) -> "Histogram":
        """Sorts scores from 0 to 1 into bins; `positive` is a bool per score. A score with weight 0 has no effect."""
        weight = jnp.asarray(weight, jnp.float32)
        place = jnp.clip(jnp.where(weight > 0, score, 0.0) * bins, 0, bins - 1).astype(jnp.int32).ravel()
        count = lambda w: jnp.zeros(bins, jnp.float32).at[place].add(w.ravel())
        return cls(count(jnp.where(positive, weight, 0.0)), count(jnp.where(positive, 0.0, weight)))

    __add__ = _plus

    def mean(self) -> float:
        """The area on the host; NaN unless both positives and negatives were counted."""
        positive, negative = (np.asarray(a, np.float64) for a in self)
        pairs = positive.sum() * negative.sum()
        below = np.cumsum(negative) - negative / 2
        return float(np.sum(positive * below) / pairs) if pairs else math.nan


def f1_of_labels(predicted_BC, actual_BC, weight_B) -> dict[str, F1 | Ratio]:
    """F1 of sets of labels: of all decisions (micro), the mean over labels (macro) and over examples (sample).

    An example without a label, for which none is predicted, has F1 = 1.
    """
    weight_B1 = weight_B[:, None]
    tp, fp, fn = F1.of(predicted_BC, actual_BC, jnp.ones_like(weight_B1), axis=1)
    sample_B = jnp.where(tp + fp + fn > 0, 2 * tp / jnp.maximum(2 * tp + fp + fn, 1), 1.0)
    return {
        "micro_f1": F1.of(predicted_BC, actual_BC, weight_B1),
        "macro_f1": F1.of(predicted_BC, actual_BC, weight_B1, axis=0),
        "sample_f1": Ratio.of(sample_B, weight_B),
    }


def average_precision(score_NC, positive_NC) -> float:
    """The mean over labels of the area under precision over recall, on the host; labels without positives are left out.

    AP = sum_k (recall_k - recall_{k-1}) precision_k      over the different scores, highest first
    """
    found = []
    for score_N, positive_N in zip(np.transpose(score_NC), np.transpose(positive_NC), strict=True):
        _, right_K, chosen_K = _ranked(score_N, positive_N)
        if right_K[-1]:
            found.append(np.sum(np.diff(right_K, prepend=0) * right_K / chosen_K) / right_K[-1])
    return float(np.mean(found)) if found else math.nan


def best_thresholds(score_NC, positive_NC) -> np.ndarray:
    """The threshold of each label with the highest F1 of score >= threshold, halfway between two scores: (C,).

    Infinity, which chooses nothing, for a label without positives.
    """
    found = []
    for score_N, positive_N in zip(np.transpose(score_NC), np.transpose(positive_NC), strict=True):
        score_K, right_K, chosen_K = _ranked(score_N, positive_N)
        best = int(np.argmax(2 * right_K / (chosen_K + right_K[-1])))
        below = score_K[min(best + 1, len(score_K) - 1)]
        found.append((score_K[best] + below) / 2 if right_K[-1] else math.inf)
    return np.array(found)


def _ranked(score_N, positive_N):
    """The different scores, highest first; how many positives, and how many examples, have at least that score."""
    order_N = np.argsort(-score_N, kind="stable")
    score_N = np.asarray(score_N, np.float64)[order_N]
    last_K = np.append(np.flatnonzero(np.diff(score_N)), len(score_N) - 1)
    return score_N[last_K], np.cumsum(positive_N[order_N])[last_K], last_K + 1
