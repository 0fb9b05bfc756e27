"""Learn by expectation maximisation."""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp

from seqjax.training.learners._counts import Counts
from seqjax.types import Count, Range


@dataclasses.dataclass(frozen=True, kw_only=True)
class EM(Counts):
    """Expectation maximisation (Baum-Welch for an HMM), for models with expected counts, such as `hmm` and `gmm`.

        s = sum over `every` batches of the expected counts under the parameters theta
        theta <- argmax of expected log p(x, z) + log prior, in closed form

    With as many batches in `every` as an epoch has, this is EM on all data, and log p(x) + log prior never falls.

    decay: stepwise EM. Sums are kept, s <- (1 - rho_t) s + rho_t * new sums, with rho_t = (t + 2)^-decay for the update
      t = 1, 2, ...; the first one takes the new sums as they are, as nothing is kept before it. 0.5 < decay <= 1 makes
      the updates settle, smaller ones forget faster, and 0 keeps nothing. The prior weighs as much against `every`
      batches as without decay.
    hard: only the most probable path counts: Viterbi training.

    A state that counts nothing keeps its parameters. The section `optim` has no meaning, but for `ema_decay`.

    Dempster et al. 1977, JRSS B 39(1). Cappe and Moulines 2009, "On-line expectation-maximization algorithm for latent
    data models", JRSS B 71(3).
    """

    decay: Annotated[float, Range(least=0, most=1)] | None = None
    every: Count = 1
    hard: bool = False

    def init(self, params):
        zeros = self.nothing(params)
        return {name: zeros for name, held in (("sums", self.every > 1), ("kept", self.decay is not None)) if held}

    def update(self, state, average, params, step):
        sums = jax.tree.map(jnp.add, state["sums"], average) if self.every > 1 else average

        def solve():
            total = sums
            if self.decay is not None:
                t = (step // self.every).astype(jnp.float32)
                rho = jnp.where(t == 0, 1.0, (t + 2) ** -self.decay)
                total = jax.tree.map(lambda kept, new: (1 - rho) * kept + rho * new, state["kept"], sums)
            found = self.model.maximise(total, params)
            kept = {"kept": self.model.recentre(total, params, found)} if self.decay is not None else {}
            return found, kept | ({"sums": jax.tree.map(jnp.zeros_like, sums)} if self.every > 1 else {})

        if self.every == 1:
            return solve()
        return jax.lax.cond((step + 1) % self.every == 0, solve, lambda: (params, {**state, "sums": sums}))


Learner = EM
