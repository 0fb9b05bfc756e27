"""How counts of n-grams become probabilities: one function per kind of smoothing, each makes a `Smoothing`.

In the equations c(h v) is how often the token v follows the context h, c(h) their sum, and T(h) the number of different
tokens that follow h. h' is h without its oldest token; without a context p(v | h') is uniform, 1 / V.

    Chen and Goodman 1999, "An empirical study of smoothing techniques for language modeling", Computer Speech and
    Language 13(4).
"""

import numpy as np

from seqjax.ops.ngrams import Smoothing

BACK_OFF = 0.4  # of stupid back-off, as in the paper


def additive(pseudocount: float) -> Smoothing:
    """p(v | h) = (c(h v) + a) / (c(h) + a V), of the longest context h that was counted.

    Lidstone's law; Laplace's for a = 1.
    """

    def tokens(count_V):
        return (count_V + pseudocount) / (count_V.sum() + pseudocount * len(count_V))

    def order(k, V, count_G, context_G, p_G):
        all_N = np.bincount(context_G, count_G) + pseudocount * V
        return (count_G + pseudocount) / all_N[context_G], pseudocount / all_N

    return Smoothing(tokens, order, longest=True)


def witten_bell() -> Smoothing:
    """p(v | h) = (c(h v) + T(h) p(v | h')) / (c(h) + T(h)).

    Witten and Bell 1991, IEEE Transactions on Information Theory 37(4).
    """

    def order(k, V, count_G, context_G, p_G):
        types_N = np.bincount(context_G).astype(float)
        all_N = np.bincount(context_G, count_G) + types_N
        return (count_G + types_N[context_G] * p_G) / all_N[context_G], types_N / all_N

    return Smoothing(_kinds_of_tokens, order)


def stupid_backoff() -> Smoothing:
    """s(v | h) = c(h v) / c(h) if h v was counted, else 0.4 s(v | h').

    These scores do not add up to one: a softmax divides them by their sum over v. Brants et al. 2007, EMNLP.
    """

    def tokens(count_V):
        return np.where(count_V > 0, count_V / count_V.sum(), BACK_OFF / len(count_V))

    def order(k, V, count_G, context_G, p_G):
        all_N = np.bincount(context_G, count_G)
        return count_G / all_N[context_G], np.full(len(all_N), BACK_OFF)

    return Smoothing(tokens, order)


def kneser_ney(modified: bool = False) -> Smoothing:
    """p(v | h) = max(c(h v) - D, 0) / c(h) + D T(h) / c(h) p(v | h').

    Below the longest contexts, c counts the different tokens before h v. D = n_1 / (n_1 + 2 n_2), where n_c is the
    number of n-grams of this order with count c. `modified`: D depends on the count, up to 3. Without a context, where
    few tokens leave no discount to estimate, it is the equation of Witten and Bell.

    Kneser and Ney 1995, ICASSP; interpolated and modified as in Chen and Goodman 1999.

    Raises:
      ValueError: there are too few n-grams of an order to estimate its discounts.
    """

    def order(k, V, count_G, context_G, p_G):
        D_4 = _discounts(k, count_G, modified)
        cut_G = D_4[np.minimum(count_G, 3).astype(int)]
        all_N, cut_N = np.bincount(context_G, count_G), np.bincount(context_G, cut_G)
        return (count_G - cut_G + cut_N[context_G] * p_G) / all_N[context_G], cut_N / all_N

    return Smoothing(_kinds_of_tokens, order, kinds=True)


def _kinds_of_tokens(count_V):
    """The equation of Witten and Bell without a context."""
    types = np.count_nonzero(count_V)
    return (count_V + types / len(count_V)) / (count_V.sum() + types)


def _discounts(k: int, count_G, modified: bool):
    """What is taken from a count of 0, 1, 2, and 3 or more."""
    n_5 = np.bincount(np.minimum(count_G, 5).astype(int), minlength=6)[:5].astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = n_5[1] / (n_5[1] + 2 * n_5[2])
        D_4 = np.arange(4) - np.arange(1, 5) * share * n_5[1:] / n_5[:4] if modified else np.full(4, share)
    D_4[0] = 0
    if n_5[1] and n_5[2] and np.all(D_4[1:] > 0) and np.all(np.arange(4) >= D_4):
        return D_4
    kind = "modified_kneser_ney" if modified else "kneser_ney"
    raise ValueError(
        f"{int(n_5[1])}, {int(n_5[2])}, {int(n_5[3])} and {int(n_5[4])} n-grams with a context of {k} tokens were "
        f"counted 1, 2, 3 and 4 times, which is too little data for the discounts of {kind}: choose a smaller "
        f"model.order, or model.smoothing='witten_bell'."
    )
