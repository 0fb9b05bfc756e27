"""A cache of the last tokens, beside the model: what was written a moment ago is likely again."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.evaluators._running_text import InOrder, RunningText
from seqjax.ops import losses
from seqjax.types import ConfigError, Count, Fraction, Positive


@dataclasses.dataclass(frozen=True)
class NeuralCache(RunningText):
    """Scores a split as one text (see `full_context`), with a cache of its last `size` tokens.

        p(w | h_t) = (1 - weight) p_model(w | h_t) + weight sum_i p_i [x_i+1 = w],   p_i ~ exp(theta h_t . h_i)

    h are the vectors that the head reads, and i the last `size` places before t. Nothing is trained, and without a
    token in the cache it is the model alone. The cache has read the split, so these numbers stand in a column of their
    own, and no checkpoint is chosen by them: `neural_cache_loss`, `neural_cache_perplexity`,
    `neural_cache_bits_per_character`. The larger `theta`, the more only similar places count.
    Choose it and `weight` on validation.

    Grave et al. 2017, "Improving neural language models with a continuous cache", arXiv:1612.04426.
    """

    size: Count = 500
    theta: Positive = 0.1
    weight: Fraction = 0.1

    def over(self, split, layout):
        if not self.model.embeds:
            raise ConfigError("evaluators: neural_cache needs vectors that a head reads: choose model.name='stack'.")
        return _Cached(self, split, layout)


class _Cached(InOrder):
    def start(self, params):
        """The vectors of the last places, the tokens that followed them, and which of them are filled."""
        N = self.of.size
        empty = np.zeros((N, self.of.model.width), np.float32), np.zeros(N, np.int32), np.zeros(N, bool)
        return jax.device_put(empty, self.layout.everywhere)

    def score(self, params, batch, carry, known):
        of, N = self.of, self.of.size
        prediction, carry, sown = of.read(params, batch, carry, sown=("features",))
        (h_1LD,) = jax.tree.leaves(sown)
        (nll_L,) = losses.per_token(losses.cross_entropy, prediction, batch["tokens"][:, 1:])
        counts_L = of.task.predicted(batch)[0] > 0
        # Places that count side by side behind the cache; the others, padding and context, go beyond the end.
        L = len(counts_L)
        to_L = jnp.where(counts_L, N - 1 + jnp.cumsum(counts_L), N + L)
        joined = lambda cache_NX, new_LX: (
            jnp.concatenate([cache_NX, jnp.zeros_like(new_LX)]).at[to_L].set(new_LX, mode="drop")
        )
        h_MD, next_M, filled_M = map(joined, known, (h_1LD[0].astype(jnp.float32), batch["tokens"][0, 1:], counts_L))
        behind_LM = to_L[:, None] - jnp.arange(N + L)[None]
        seen_LM = filled_M[None] & (behind_LM >= 1) & (behind_LM <= N)
        score_LM = jnp.where(seen_LM, of.theta * h_1LD[0].astype(jnp.float32) @ h_MD.T, -jnp.inf)
        any_L = jnp.any(seen_LM, axis=1)
        weight_LM = jax.nn.softmax(jnp.where(any_L[:, None], score_LM, 0), axis=1)
        p_L = jnp.sum(jnp.where(next_M[None] == batch["tokens"][0, 1:, None], weight_LM, 0), axis=1)
        mix = jnp.where(any_L, of.weight, 0)
        mixed_L = jnp.logaddexp(jnp.log1p(-mix) - nll_L, jnp.log(mix * p_L))
        metrics = of.task.sums(-mixed_L[None], batch)
        last = jnp.sum(counts_L) + jnp.arange(N)
        return metrics, carry, (h_MD[last], next_M[last], filled_M[last])


Evaluator = NeuralCache
