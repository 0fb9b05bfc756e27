"""Compare hidden states, learnt without tags, with the tags of the data."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import entr

from seqjax.data import Batches
from seqjax.evaluators import _base
from seqjax.training.net import Net


def many_to_one(count_KC) -> float:
    """The share of tokens that have the most frequent tag of their state."""
    return count_KC.max(axis=1).sum() / count_KC.sum()


def one_to_one(count_KC) -> float:
    """The same if no two states may stand for one tag, of the best such matching (Hungarian algorithm)."""
    return count_KC[linear_sum_assignment(count_KC, maximize=True)].sum() / count_KC.sum()


def v_measure(count_KC) -> float:
    """2 I(state; tag) / (H(state) + H(tag)); 1 if there is one state and one tag."""
    p_KC = count_KC / count_KC.sum()
    apart = sum(entr(p_KC.sum(axis=axis)).sum() for axis in (0, 1))
    return 2 * (1 - entr(p_KC).sum() / apart) if apart else 1.0


SCORES = {f"clusters_{of.__name__}": of for of in (many_to_one, one_to_one, v_measure)}


@dataclasses.dataclass(frozen=True)
class Clusters(_base.Evaluator):
    """Whether the hidden states of a model agree with the tags of the data, which it never saw.

    The state of a token is the most probable one given its whole sequence. n_kc tokens of the split have the state k
    and the tag c, N all together.

        clusters_many_to_one  sum_k max_c n_kc / N
        clusters_one_to_one   max_m sum_k n_k,m(k) / N, where m gives each state a tag of its own, or none
        clusters_v_measure    2 I(state; tag) / (H(state) + H(tag))

    States are given to tags on the evaluated split itself, as is usual, so the first two are no accuracies of a tagger.
    The first one grows with the number of states, up to 1.

    Johnson 2007, "Why doesn't EM find good HMM POS-taggers?", EMNLP. Rosenberg and Hirschberg 2007, "V-measure: a
    conditional entropy-based external cluster evaluation measure", EMNLP.

    Raises:
      ValueError: the data have no tags, or the model has no hidden states of tokens.
    """

    metrics = dict.fromkeys(SCORES, "more")

    def __post_init__(self):
        super().__post_init__()
        if "tags" not in self.source.spec.fields:
            fields = ", ".join(self.source.spec.fields)
            raise ValueError(
                f"clusters compares states with tags, this source has {fields}: choose data with tags, or remove this "
                "evaluator."
            )
        if not hasattr(self.model, "smooth") or self.model.classifies:
            raise ValueError(
                f"clusters needs a model with hidden states of tokens, got a {type(self.model).__name__} for "
                f"{type(self.task).__name__}: choose the model hmm and the task density, or remove this evaluator."
            )

    def over(self, split, layout):
        return Table(self, split, layout)


class Table(_base.Pass):
    """How often each state and each tag come together on a split, float64 on the host."""

    def __init__(self, of: Clusters, split: str, layout):
        self.batches, self.layout = Batches(of.source, split, of.loader), layout
        self.count = self.batches.per_epoch
        shape = of.model.size, of.source.spec.fields["tags"].size

        def count(params, batch):
            state_BL = jnp.argmax(Net(of.model, params).ask("smooth", of.task.sequence(batch)), axis=-1)
            weight_BL = batch["mask"] * batch["weight"][:, None]
            return jnp.zeros(shape).at[state_BL, batch["tags"]].add(weight_BL)

        self._count = jax.jit(count, out_shardings=layout.everywhere)

    def __call__(self, params, step, *, on_batch, give_up, write):
        count_KC, size = 0.0, self.batches.loader.batch_size
        for i, batch in enumerate(self.batches.iterate(0, self.count, rows=self.layout.rows(size))):
            count_KC += np.float64(jax.device_get(self._count(params, self.layout.place(batch, size))))
            on_batch(i + 1)
            if give_up():
                return None
        return {name: float(of(count_KC)) for name, of in SCORES.items()}


Evaluator = Clusters
