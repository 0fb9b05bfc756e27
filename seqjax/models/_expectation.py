"""What a hidden Markov model offers to learners that count: expected counts, their maximum, and a start from data."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from seqjax.emissions._base import log_shares
from seqjax.emissions._kmeans import kmeans
from seqjax.models import _segments
from seqjax.models._inference import Inference
from seqjax.ops import chain


class Expectation(Inference, kw_only=True):
    """Expected counts, by Fisher's identity: the gradients of log p(x) by the log-probabilities of the model."""

    def expected(
        self,
        x,
        state=None,
        *,
        mask_BL=None,
        reset_BL=None,
        hard: bool = False,
        label_B=None,
        allowed_BLK=None,
        **side,
    ):
        """Sums over rows of expected counts given x, and log p(x, what is known) (B,), or (hard) of the best path.

        Args:
          state: of a call, before the first token.
          hard: counts of the best path alone: Viterbi training.
          label_B: the class of each sequence; None: any.
          allowed_BLK: bool, the states that each token may be in: one is a known state, several are a partial label;
            None: any. A row without an allowed path counts nothing, and its log-likelihood is -inf.
        """
        x, score_BLK = self.scores(x, mask_BL, **side)
        if allowed_BLK is not None:
            score_BLK = jnp.where(allowed_BLK, score_BLK, -jnp.inf)
        real_BL = jnp.ones(score_BLK.shape[:2], bool) if mask_BL is None else mask_BL
        flags = dict(mask_BL=mask_BL, reset_BL=reset_BL)

        def total(start_CK, transition_CKK, prior_C, score_BLK):
            op = (lambda *a, **k: chain.viterbi(*a, **k)[1]) if hard else chain.log_likelihood
            log_p_BC = self.over(op, start_CK, transition_CKK, score_BLK, state, **flags)
            log_p_BC = (log_p_BC if self.classifies else log_p_BC[:, None]) + prior_C[None]
            if label_B is not None:
                return jnp.take_along_axis(log_p_BC, label_B[:, None], axis=1)[:, 0]
            return (jnp.max if hard else jax.nn.logsumexp)(log_p_BC, axis=1)

        log_p_B, count = jax.vjp(total, *self.moves.log_p(*self.logits()), self.log_prior_C(), score_BLK)
        counted_B = jnp.isfinite(log_p_B) & jnp.any(real_BL, axis=1)
        start_CK, transition_CKK, prior_C, weight_BLK = count(counted_B.astype(jnp.float32))
        emission = self.emits.statistics(x, weight_BLK, *side.values(), hard=hard)
        sums = {"start": start_CK, "transition": transition_CKK, "emission": emission}
        return sums | ({"prior": prior_C} if self.classifies else {}), jnp.where(jnp.any(real_BL, axis=1), log_p_B, 0)

    @property
    def complete(self) -> bool:
        """Whether what the task knows (`Task.known`) leaves no state hidden: then one pass over the data counts all."""
        states = self.size == 1 or (self.tags and "allowed" not in self.inputs.fields)
        return states and self.make_emission(parent=None).complete

    @property
    def solvable(self):
        return self.transition_width is None and self.make_emission(parent=None).solvable

    @nn.nowrap
    def maximise(self, sums, params):
        """The parameters that maximise the expected log p(x, z) plus the log of the prior; see `expected`."""
        emission = self.make_emission(parent=None).solve(sums["emission"], params["emission"])
        logits = self.moves.solve(sums["start"], sums["transition"], self.concentrations, self.logits_of(params))
        prior = {"prior": log_shares(sums["prior"], 1.0, params["prior"])} if self.classifies else {}
        return self._with(params, logits, emission) | prior

    @nn.nowrap
    def _with(self, params, logits, emission):
        moves = {name: a_CX for name, a_CX in zip(("start", "transition"), logits, strict=True) if name in params}
        return {**params, **moves, "emission": emission}

    @nn.nowrap
    def recentre(self, sums, params, new):
        """The sums that `params` made as if `new` had made them, with the same weights: for sums over several steps."""
        emission = self.make_emission(parent=None).recentre(sums["emission"], params["emission"], new["emission"])
        return {**sums, "emission": emission}

    @nn.nowrap
    def log_prior(self, sums, params):
        """The log of the prior of `params`, up to a constant, which `maximise` adds to the expected log-likelihood."""
        moves = self.moves.log_prior(self.concentrations, self.logits_of(params))
        return moves + self.make_emission(parent=None).log_prior(sums["emission"], params["emission"])

    @nn.nowrap
    def begin(self, params, x, key, *, mask_BL, reset_BL=None, label_B=None, allowed_BLK=None, observed_BLF=None):
        """The first parameters, from a batch, on the host: hard states, then what they count."""
        x = np.asarray(x["tokens"] if isinstance(x, dict) else x)
        if (state_BL := self._hard(x, key, mask_BL, reset_BL, label_B, allowed_BLK, observed_BLF)) is None:
            return params
        emission = self.make_emission(parent=None)
        found = emission.begin(params["emission"], x, state_BL, key, observed=observed_BLF, n_init=self.n_init)
        if self.transition_width is not None:
            return {**params, "emission": found}  # a network begins at random
        CK = self.classes * self.size
        first_K, next_KK = _segments.moves(state_BL, mask_BL, reset_BL, CK)
        if self.tags:
            self._check_moves(np.concatenate([first_K[None], next_KK]))
        blocks = next_KK.reshape(self.classes, self.size, self.classes, self.size)
        next_CKK = np.float32(np.stack([blocks[c, :, c] for c in range(self.classes)]))
        first_CK = np.float32(first_K.reshape(self.classes, self.size))
        # One more of each: what a state can never do at the start, it never learns.
        logits = self.moves.solve(first_CK + 1e-6, next_CKK + 1e-6, (2.0, 2.0), self.logits_of(params))
        return self._with(params, logits, found)

    @nn.nowrap
    def _check_moves(self, count_RK):
        """Raises ValueError if known tags follow each other as the topology forbids."""
        for row, tag in np.argwhere((count_RK > 0) & ~self.moves.allowed).tolist():
            what = f"begins with tag {tag}" if row == 0 else f"has tag {tag} after tag {row - 1}"
            raise ValueError(
                f"a sequence in the first batch {what}, which model.topology forbids: allow it, or correct the tags."
            )

    @nn.nowrap
    def _hard(self, x, key, mask_BL, reset_BL, label_B, allowed_BLK, observed_BLF):
        """A state of each token, of all classes counted together, -1: none; None: there is no good guess."""
        mask_BL = np.asarray(mask_BL)
        if self.initial == "random" or (self.tags and allowed_BLK is None):
            return None
        if self.tags:
            if len(never := np.argwhere(mask_BL & ~np.any(allowed_BLK, axis=2))):
                row, t = never[0].tolist()
                raise ValueError(
                    f"token {t} of row {row} in the first batch may have none of the {self.size} tags: correct the "
                    "field allowed, all of whose flags are True where nothing is known."
                )
            known_BL = mask_BL & (np.sum(allowed_BLK, axis=2) == 1)
            return np.where(known_BL, np.argmax(allowed_BLK, axis=2), -1)
        if self.classifies and label_B is None:
            return None
        label_B = np.zeros(len(x), int) if label_B is None else np.asarray(label_B)
        if self.topology in ("left_right", "linear"):
            state_BL = _segments.equal(mask_BL, None if reset_BL is None else np.asarray(reset_BL), self.size)
        elif self.inputs.vocabulary is not None:
            return None  # tokens have no distance
        else:
            state_BL = np.full(mask_BL.shape, -1)
            for c in np.unique(label_B[mask_BL.any(axis=1)]):
                mine_BL = mask_BL & (label_B == c)[:, None]
                seen_BL = mine_BL if observed_BLF is None else mine_BL & np.all(observed_BLF, axis=2)
                state_BL[seen_BL] = kmeans(x[seen_BL], self.size, key, self.n_init)
        return np.where(state_BL >= 0, state_BL + label_B[:, None] * self.size, -1)
