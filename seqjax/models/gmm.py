"""Mixtures that see a sequence as a bag of tokens."""

from collections.abc import Callable
from functools import partial
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from seqjax import masks
from seqjax.emissions._base import log_shares
from seqjax.emissions.mixture import Mixture
from seqjax.models._base import Model as _Model
from seqjax.models._criteria import Criteria
from seqjax.types import Count, Part


class GMM(Criteria, _Model, kw_only=True):
    """Gaussian mixture: every token is independent of the others, and comes from one of M Gaussians.

        log p(x_t) = log sum_m w_m N(x_t; mean_m, S_m)                     one per token: density
        log p(x_1 ... x_L, c) = log p(c) + sum_t log p(x_t | c)            one per class: classification

    As a classifier it has a mixture per class, and is the bag of frames; its logits are these sums, so a softmax makes
    them the posterior of the class. `emission` may be any other emission: with "categorical" it is naive Bayes.

    A run begins with the clusters of its first batch, by k-means from the k-means++ start, the best of `n_init`
    (`begin`); other seeds begin elsewhere.

    Raises:
      ValueError: the task wants other predictions.
    """

    emission: Annotated[Callable, Part("seqjax.emissions", "Emission")] = partial(Mixture, components=8)
    n_init: Count = 1

    side = ("observed_BLF",)
    begins = True
    vectors = ("prior",)

    def __post_init__(self):
        super().__post_init__()
        head = self.head(inputs=self.inputs, width=1, parent=None)
        if head.stepwise != head.density:
            raise ValueError(
                f"a mixture gives a density per token or logits per sequence, not what {type(head).__name__} reads: "
                "choose the task density or classification, or another model."
            )
        self.make(parent=None)

    @property
    def classes(self) -> int | None:
        """The number of classes C; None: the prediction is a density."""
        head = self.head(inputs=self.inputs, width=1, parent=None)
        return None if head.density else head.outputs

    @property
    def whole(self):
        return [] if self.classes is None else super().whole

    @nn.nowrap
    def make(self, **kwargs):
        """The emission, with one state per class."""
        return self.emission(inputs=self.inputs, states=self.classes or 1, **kwargs)

    @property
    def complete(self) -> bool:
        """Whether what the task knows (`Task.known`) leaves nothing hidden: then one pass over the data counts all."""
        return self.make(parent=None).complete

    @property
    def solvable(self):
        return self.make(parent=None).solvable

    @property
    def free_parameters(self) -> int:
        """The number of free parameters, for AIC and BIC."""
        return self.make(parent=None).free_parameters + (self.classes or 1) - 1

    @nn.nowrap
    def init_state(self, batch: int):
        """Nothing, as no token depends on those before; a classifier reads whole sequences and has no state."""
        return super().init_state(batch) if self.classes else jnp.zeros((batch, 0), jnp.float32)

    def setup(self):
        self.inner = self.make(parent=self, name="emission")
        if self.classes:
            self.prior = self.param("prior", nn.initializers.zeros, (self.classes,))
        else:
            self.readout = self.head(inputs=self.inputs, width=1)

    def __call__(self, x, state=None, *, mask_BL=None, reset_BL=None, deterministic=True, observed_BLF=None):
        """Tokens -> log p(x_t) in nats (B, L), or logits (B, C)."""
        if state is not None:
            self.init_state(len(x))
        score_BLC = self._scores(x, mask_BL, observed_BLF)
        if self.classes:
            return self._joint(score_BLC), None
        return self.readout(score_BLC[..., 0], mask_BL), state

    def _scores(self, x, mask_BL, observed_BLF):
        return masks.fill(self.inner(masks.fill(x, mask_BL), observed_BLF), mask_BL)

    def _joint(self, score_BLC):
        """log p(x_1 ... x_L, c): (B, C)."""
        log_prior_C = jax.nn.log_softmax(self.prior) if self.classes else jnp.zeros(1)
        return log_prior_C[None] + jnp.sum(score_BLC, axis=1)

    def expected(self, x, state=None, *, mask_BL=None, reset_BL=None, hard=False, observed_BLF=None, label_B=None):
        """The sums that `maximise` reads, and the log-likelihood of each row (B,); they add up over rows and batches.

        With `label_B`, a row counts for its class, and its log-likelihood is that of x and the class; without, for all
        classes in proportion to their posteriors. `hard`: only the most probable class and component count.
        """
        joint_BC = self._joint(self._scores(x, mask_BL, observed_BLF))
        C = joint_BC.shape[1]
        if hard and label_B is None:
            label_B = jnp.argmax(joint_BC, axis=1)
        weight_BC = jax.nn.softmax(joint_BC) if label_B is None else jax.nn.one_hot(label_B, C)
        log_likelihood_B = jax.nn.logsumexp(jnp.where(weight_BC > 0, joint_BC, -jnp.inf), axis=1)
        real_BL = jnp.ones(x.shape[:2], bool) if mask_BL is None else mask_BL
        some_B = jnp.any(real_BL, axis=1)  # an empty row does not exist
        weight_BLC = jnp.where(real_BL[..., None], weight_BC[:, None], 0)
        sums = {"emission": self.inner.statistics(masks.fill(x, mask_BL), weight_BLC, observed_BLF, hard)}
        if self.classes:
            sums["prior"] = jnp.sum(jnp.where(some_B[:, None], weight_BC, 0), axis=0)
        return sums, jnp.where(some_B, log_likelihood_B, 0)

    @nn.nowrap
    def maximise(self, sums, params):
        """The parameters with the largest expected log-likelihood, in closed form; `sums` are of `params`."""
        found = {"emission": self.make(parent=None).solve(sums["emission"], params["emission"])}
        return found | {"prior": log_shares(sums["prior"], 1.0, params["prior"])} if self.classes else found

    @nn.nowrap
    def recentre(self, sums, params, new):
        """The sums of `params` as if `new` had made them: for sums over several steps."""
        inner = self.make(parent=None).recentre(sums["emission"], params["emission"], new["emission"])
        return {**sums, "emission": inner}

    @nn.nowrap
    def log_prior(self, sums, params):
        """The log of the prior of `params`, up to a constant; `sums` are of `params`, over all data."""
        return self.make(parent=None).log_prior(sums["emission"], params["emission"])

    @nn.nowrap
    def portrait(self, params, symbol: Callable[[int], str]) -> list[dict]:
        """What each class, or the whole model, emits, in words; see `Inference.portrait`."""
        return [{"emits": [text]} for text in self.make(parent=None).describe(params["emission"], symbol)]

    @nn.nowrap
    def begin(self, params, x, key, *, mask_BL=None, reset_BL=None, observed_BLF=None, label_B=None):
        real_BL = np.ones(x.shape[:2], bool) if mask_BL is None else np.asarray(mask_BL)
        row_B = np.zeros(len(x), int) if label_B is None else np.asarray(label_B)
        state_BL = np.where(real_BL, row_B[:, None], -1)
        if missing := sorted({*range(self.classes or 1)} - {*state_BL.ravel().tolist()}):
            raise ValueError(
                f"the first batch has no example of class {missing[0]}, so its mixture cannot begin: give a larger "
                "batch (loader.batch_size)."
            )
        inner = self.make(parent=None).begin(params["emission"], x, state_BL, key, observed_BLF, self.n_init)
        if not self.classes:
            return {"emission": inner}
        count_C = np.bincount(row_B[real_BL.any(axis=1)], minlength=self.classes)
        return {"emission": inner, "prior": log_shares(jnp.float32(count_C), 1.0, params["prior"])}


Model = GMM
