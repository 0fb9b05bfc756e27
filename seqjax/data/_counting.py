"""What counting n-grams reaches on a text: the baseline of every language model."""

import math
import time
from typing import NamedTuple

import numpy as np

from seqjax.ops import ngrams, smoothing

ORDERS = (1, 2, 3, 4, 5, 6, 7, 9, 12, 15, 19)
LONGEST = 2_000_000  # tokens of train; more take minutes


class Text(NamedTuple):
    """A split: its ids, how many characters each adds (or None), and the places where documents begin."""

    ids_M: np.ndarray
    width_M: np.ndarray | None
    begin_D: np.ndarray


class Counted(NamedTuple):
    """The n-gram model with the context that is best on validation: its size, and the seconds that all took."""

    order: int
    table: ngrams.Table
    seconds: float

    @property
    def parameters(self) -> int:
        """The n-grams of all orders."""
        return len(self.table.unigram_V) + len(self.table.token_G)


def counted(train: Text, validation: Text, V: int, length: int) -> Counted | None:
    """Modified Kneser-Ney (see `models/markov.py`); None if train is too long, or too short for its discounts.

    Longer contexts are tried until one is worse on the windows of validation.
    """
    if len(train.ids_M) > LONGEST:
        return None
    begin, best, least = time.perf_counter(), None, math.inf
    start_M = np.zeros(len(train.ids_M), bool)
    start_M[train.begin_D] = True
    counts, how = ngrams.count(train.ids_M, start_M, V, ORDERS[-1]), smoothing.kneser_ney(modified=True)
    for order in ORDERS:
        try:
            table = ngrams.table(counts._replace(orders=counts.orders[:order]), how)
        except ValueError:  # too few n-grams of this order
            break
        nats, _ = scores(table, validation, length)
        if nats.sum() >= least:
            break
        best, least = (order, table), nats.sum()
    return best and Counted(*best, time.perf_counter() - begin)


def scores(table: ngrams.Table, text: Text, length: int | None) -> tuple[np.ndarray, np.ndarray | None]:
    """-log p of each token that a model predicts, in nats, and its width.

    `length`: the text is read in windows of so many predictions, each from its start; None: it is read as a whole.
    """
    place_M = np.arange(len(text.ids_M))
    begins = np.zeros(len(place_M), int)
    begins[text.begin_D] = text.begin_D
    known_M = place_M - np.maximum.accumulate(begins)  # tokens of the document before each
    if length is not None:
        known_M = np.where(known_M > 0, np.minimum(known_M, (place_M - 1) % length + 1), 0)
    nats = -ngrams.log_p(table, text.ids_M, known_M)
    return nats, None if text.width_M is None else text.width_M[known_M > 0]
