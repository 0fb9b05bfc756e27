"""Criteria that weigh the likelihood of a model against its size."""

import math


class Criteria:
    """What a model with `free_parameters` offers to compare it with others of the same data: less is better.

    Akaike 1974, "A new look at the statistical model identification", IEEE TAC 19(6). Schwarz 1978, "Estimating the
    dimension of a model", Annals of Statistics 6(2).
    """

    def aic(self, log_likelihood):
        """Akaike's criterion, 2 k - 2 log p(x). `log_likelihood`: of all training sequences together."""
        return 2 * self.free_parameters - 2 * log_likelihood

    def bic(self, log_likelihood, tokens: int):
        """Schwarz's criterion, k log(tokens) - 2 log p(x)."""
        return self.free_parameters * math.log(tokens) - 2 * log_likelihood
