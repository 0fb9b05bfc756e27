"""What a hidden Markov model says about sequences: states, paths, the future, and samples."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from seqjax import masks
from seqjax.models._base import Model
from seqjax.models._criteria import Criteria
from seqjax.ops import chain


def mixed(log_XK, log_KV):
    """log sum_k exp(log_XK + log_KV), by one product: log-probabilities of V from those of K states.

    -inf, with gradient zero, where the sum is 0.
    """
    peak_1V = jax.lax.stop_gradient(jnp.max(log_KV, axis=0, keepdims=True))
    peak_1V = jnp.where(peak_1V == -jnp.inf, 0, peak_1V)
    p_XV = jnp.matmul(jnp.exp(log_XK), jnp.exp(log_KV - peak_1V), precision="highest")
    some_XV = p_XV > 0
    log_XV = jnp.log(jnp.where(some_XV, p_XV, 1)) + peak_1V.reshape((1,) * (p_XV.ndim - 1) + (-1,))
    return jnp.where(some_XV, log_XV, -jnp.inf)


def posterior(start_K, transition_KK, score_BLK, *, mask_BL=None, reset_BL=None):
    """`chain.smooth` with gradients: p(z_t | x) ~ p(z_t | x_1..t) p(x_t+1..L | z_t), two filters."""
    flip = lambda a_BL: None if a_BL is None else jnp.flip(a_BL, axis=1)
    forward_BLK = chain.filter(start_K, transition_KK, score_BLK, mask_BL=mask_BL, reset_BL=reset_BL)[0]
    flags = dict(mask_BL=flip(mask_BL), reset_BL=flip(masks.ends(score_BLK.shape[:2], mask_BL, reset_BL)))
    backward_BLK = flip(chain.filter(jnp.zeros_like(start_K), transition_KK.T, flip(score_BLK), **flags)[0])
    # Both have read x_t.
    return masks.fill(jax.nn.log_softmax(forward_BLK + backward_BLK - score_BLK), mask_BL)


class Inference(Criteria, Model, kw_only=True):
    """The questions to a hidden Markov model; each is a method for `model.apply({"params": params}, x, method=...)`.

    x, `mask_BL`, `reset_BL` and side inputs are those of a call. What is masked gives zero. If the model classifies,
    there is one answer per class: arrays have an axis C after B.
    """

    def filter(self, x, *, mask_BL=None, reset_BL=None, **side):
        """log p(z_t | x_1 ... x_t): (B, L, K)."""
        return self._ask(chain.filter, x, mask_BL, reset_BL, side)[0]

    def smooth(self, x, *, mask_BL=None, reset_BL=None, **side):
        """log p(z_t | x_1 ... x_L): (B, L, K). Its argmax is posterior decoding."""
        return self._ask(chain.smooth, x, mask_BL, reset_BL, side)

    def viterbi(self, x, *, mask_BL=None, reset_BL=None, **side):
        """The most probable path (B, L), int32, and log p(x, path) (B,)."""
        return self._ask(chain.viterbi, x, mask_BL, reset_BL, side)

    def log_likelihood(self, x, *, mask_BL=None, reset_BL=None, **side):
        """log p(x_1 ... x_L): (B,)."""
        return self._ask(chain.log_likelihood, x, mask_BL, reset_BL, side)

    def paths(self, x, key, *, mask_BL=None, reset_BL=None, **side):
        """A path from p(z | x): (B, L), int32."""
        return self._ask(functools.partial(chain.sample, key), x, mask_BL, reset_BL, side)

    def _ask(self, op, x, mask_BL, reset_BL, side):
        return self.along(op, self.scores(x, mask_BL, **side)[1], mask_BL=mask_BL, reset_BL=reset_BL)

    def predict_states(self, state_BK, steps: int):
        """log p(z_{t+n} | x_1 ... x_t) for n = 1 ... steps, from the state after x_t of a call: (B, steps, K)."""
        start_CK, transition_CKK = self.moves.log_p(*self.logits())
        empty_B1 = jnp.all(state_BK == 0, axis=1, keepdims=True)
        first_BK = jnp.where(empty_B1, start_CK, mixed(state_BK, transition_CKK[0]))
        onward = lambda z_BK, _: (mixed(z_BK, transition_CKK[0]), z_BK)
        return jnp.swapaxes(jax.lax.scan(onward, first_BK, length=steps)[1], 0, 1)

    def predict_tokens(self, state_BK, steps: int):
        """log p(x_{t+n} | x_1 ... x_t) for n = 1 ... steps, of a model of tokens: (B, steps, V)."""
        return mixed(self.predict_states(state_BK, steps), self.table_KV())

    def sample(self, key, batch: int, length: int):
        """Draws paths (B, L) and what they emit, x."""
        rows = (batch, self.classes)
        first, *rest = jax.random.split(key, length + 1)
        start_CK, transition_CKK = self.moves.log_p(*self.logits())
        z_BC = jax.random.categorical(first, start_CK, shape=rows)

        def step(z_BC, key):
            return jax.random.categorical(key, transition_CKK[jnp.arange(self.classes), z_BC]), z_BC

        _, z_LBC = jax.lax.scan(step, z_BC, jnp.stack(rest))
        z_BCL = jnp.moveaxis(z_LBC, 0, 2)
        z_BCL = z_BCL if self.classifies else z_BCL[:, 0]
        of_class = jnp.arange(self.classes)[:, None] * self.size if self.classifies else 0
        return z_BCL, self.emits.sample(jax.random.fold_in(key, 1), z_BCL + of_class)

    @nn.nowrap
    def portrait(self, params, symbol: Callable[[int], str]) -> list[dict]:
        """Of each class, or of the whole model: p(first state), p(next state | state), and what states emit, in words.

        Args:
          params: host arrays. symbol: the text of an id of `tokens`.
        """
        start_CK, transition_CKK = (np.exp(log_CX) for log_CX in self.moves.log_p(*self.logits_of(params)))
        emits = self.make_emission(parent=None).describe(params["emission"], symbol)
        emits_CK = np.array(emits, object).reshape(start_CK.shape).tolist()
        moves = zip(start_CK, transition_CKK, emits_CK, strict=True)
        return [{"start": start_K, "transition": to_KK, "emits": emits_K} for start_K, to_KK, emits_K in moves]

    @property
    def free_parameters(self) -> int:
        """The number of free parameters: neither forbidden moves count, nor what a sum of 1 decides."""
        moves = self.moves.free_parameters
        if self.transition_width is not None:
            moves = min(moves, self.make_network(parent=None).size + self.classes * (self.size - 1))
        return moves + self.make_emission(parent=None).free_parameters + self.classes - 1
