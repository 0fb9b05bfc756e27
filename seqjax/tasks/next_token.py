"""Predict the next token."""

import dataclasses
import functools
import math
import operator

import jax
import jax.numpy as jnp

from seqjax import masks
from seqjax.metrics import Perplexity, Ratio
from seqjax.ops import losses
from seqjax.tasks import _base
from seqjax.types import ConfigError, Natural, NonNegative

REGULARIZERS = ("activation_regularization", "temporal_activation_regularization")


@dataclasses.dataclass(frozen=True)
class NextToken(_base.Task):
    """Next token: cross-entropy of each token given all tokens before it.

        loss = - mean_t log p(token_t | token_0 ... token_{t-1})      in nats

    The mean is over real tokens, and only over `scored` ones if examples have that field. If examples have a `source`,
    p is also given the source. The first token of a document (`reset`) is not predicted, as no token comes before it.
    Also reported: `accuracy`, `bits_per_<unit>` = loss / ln 2, and, with `scored`, `exact_match`: the share of rows in
    which every scored token is right (rows without a scored token do not count). If examples say how many characters
    each token adds to the text (`span`), also `perplexity` = exp(loss), which depends on the tokenizer, and
    `bits_per_character` = sum_t -log2 p(token_t | ...) / the characters of these tokens, which does not.

    `prompt_length`: number of first tokens of a document that are not predicted: a prefix language model reads these
    as a whole.

    `carry_state` is truncated back-propagation through time: rows are long streams of running text, a batch starts
    from the final state of the batch before it (see `seqjax.data.Streams`), and the gradient stops at its first token.
    Evaluation carries the state, too. Williams and Peng 1990, Neural Computation 2(4); streams as in Zaremba et al.
    2014, arXiv:1409.2329.

    `activation_regularization` (AR) and `temporal_activation_regularization` (TAR) are the coefficients of two further
    terms, reported under these names, in which h is the output of a mixer, and m * h the same after dropout:

        AR = mean (m * h_t)^2          TAR = mean (h_t - h_t+1)^2

    The means are over features, blocks and real tokens. Merity et al. 2017, arXiv:1708.02182, has 2 and 1 for the
    output of the last LSTM, which is the output of a `stacked` mixer.
    """

    prompt_length: Natural = 0
    carry_state: bool = False
    activation_regularization: NonNegative = 0.0
    temporal_activation_regularization: NonNegative = 0.0

    causal = True

    def __post_init__(self):
        super().__post_init__()
        if self.spec.vocabulary is None:
            raise ValueError("next_token needs tokens, this source has features: choose other data, or another task.")
        if self.prompt_length and self.carry_state:
            raise ValueError(
                f"task.prompt_length={self.prompt_length} counts from the start of a document, but task.carry_state "
                "cuts documents into batches: set only one of them."
            )
        length = self.spec.length
        if length < 2:
            raise ValueError(
                "the longest example (spec.length) has 1 token, which leaves nothing to predict: give longer ones."
            )
        if self.prompt_length >= length:
            raise ValueError(
                f"task.prompt_length={self.prompt_length} leaves no token to predict, the longest example (spec.length)"
                f" has {length}: choose at most {length - 1}."
            )

    @property
    def metrics(self):
        scored = {"exact_match": "more"} if "scored" in self.spec.fields else {}
        text = {"perplexity": "less", "bits_per_character": "less"} if "span" in self.spec.fields else {}
        terms = dict.fromkeys(self.terms, "less")
        return {**terms, "accuracy": "more", f"bits_per_{self.spec.unit}": "less", **text, **scored}

    @property
    def terms(self):
        found = {name: getattr(self, name) for name in REGULARIZERS}
        return {"loss": 1.0} | {name: coefficient for name, coefficient in found.items() if coefficient}

    def outputs(self) -> int:
        return self.spec.vocabulary

    def reads(self, batch):
        # With a carried state, the next batch begins with the last token of this one, which must not be read twice.
        mask_BL = batch["mask"][:, 1:] if self.carry_state else batch["mask"][:, :-1]
        reset_BL = batch["reset"][:, :-1] if "reset" in batch else None
        whole = super().reads(batch)
        return whole._replace(x=whole.x[:, :-1], mask_BL=mask_BL, reset_BL=reset_BL)

    def sequence(self, batch):
        if self.carry_state:  # the last token is the first one of the next batch
            return self.reads(batch)
        return _base.Reads(batch["tokens"], batch["mask"], batch.get("reset"), self.reads(batch).side)

    def length(self, L):
        return L - 1

    def predicted(self, batch):
        """The weight of each prediction: 1 if it counts, else 0."""
        weight_BL = batch["mask"][:, 1:] * batch["weight"][:, None]
        if "reset" in batch:
            weight_BL = weight_BL * ~batch["reset"][:, 1:]
        if self.prompt_length:
            place_BL = masks.positions(batch["mask"].shape, batch["mask"], batch.get("reset"))
            weight_BL = weight_BL * (place_BL[:, 1:] >= self.prompt_length)
        return weight_BL * batch["scored"][:, 1:] if "scored" in batch else weight_BL

    def weights(self, batch):
        found = {name: jnp.sum(weight_BX) for name, weight_BX in self._weights(batch).items() if name in self.terms}
        return found if found.keys() == self.terms.keys() else super().weights(batch)

    def _weights(self, batch) -> dict:
        """Of all terms: of each prediction, each token that is read, and each pair of such tokens of one document."""
        reads = self.reads(batch)
        pair_BL = reads.mask_BL[:, :-1] & reads.mask_BL[:, 1:]
        pair_BL = pair_BL if reads.reset_BL is None else pair_BL & ~reads.reset_BL[:, 1:]
        of_row = lambda mask_BL: mask_BL * batch["weight"][:, None]
        AR, TAR = REGULARIZERS
        return {"loss": self.predicted(batch), AR: of_row(reads.mask_BL), TAR: of_row(pair_BL)}

    def objective(self, net, batch, carry):
        if len(self.terms) == 1:
            return super().objective(net, batch, carry)
        prediction, carry, sown = net(self.reads(batch), carry, sown=("activations",))
        mixed = jax.tree.leaves(sown.get("activations", {}), is_leaf=lambda leaf: isinstance(leaf, tuple))
        if not mixed:
            raise ConfigError(
                f"task: {type(net.model).__name__} has no mixers whose outputs could be regularized: choose model.name="
                "'stack', or leave out task.activation_regularization and task.temporal_activation_regularization."
            )
        mean = lambda of: functools.reduce(operator.add, [_size(of(*one)) for (one,) in mixed]) / len(mixed)
        sizes = (mean(lambda h, dropped: dropped), mean(lambda h, dropped: h[:, 1:] - h[:, :-1]))
        metrics, weights = self.loss(prediction, batch), self._weights(batch)
        found = {name: Ratio.of(size, weights[name]) for name, size in zip(REGULARIZERS, sizes, strict=True)} | metrics
        return {name: found[name] for name in self.terms}, metrics, carry

    def loss(self, prediction, batch):
        target_BL, weight_BL = batch["tokens"][:, 1:], self.predicted(batch)
        nll_BL, right_BL = losses.per_token(_score, prediction, target_BL)
        metrics = self.sums(nll_BL, batch) | {"accuracy": Ratio.of(right_BL, weight_BL)}
        if "scored" in batch:
            right_B = jnp.all(right_BL | (weight_BL == 0), axis=1)
            metrics["exact_match"] = Ratio.of(right_B, batch["weight"] * jnp.any(weight_BL > 0, axis=1))
        return metrics

    def sums(self, nll_BL, batch) -> dict:
        """The metrics that follow from -log p of each token that is predicted."""
        weight_BL = self.predicted(batch)
        loss = Ratio.of(nll_BL, weight_BL)
        found = {"loss": loss, f"bits_per_{self.spec.unit}": Ratio.of(nll_BL / math.log(2), weight_BL)}
        if "span" in batch:
            characters = Ratio.of(batch["span"][:, 1:], weight_BL).total
            found["perplexity"] = Perplexity(*loss)
            found["bits_per_character"] = Ratio(loss.total / math.log(2), characters)
        return found


def _size(h_BLD):
    """The mean square over features: (B, L), float32."""
    return jnp.mean(jnp.square(h_BLD.astype(jnp.float32)), axis=-1)


def _score(logits_BLV, target_BL):
    """The loss of each token, and whether the model's first choice was right."""
    return losses.cross_entropy(logits_BLV, target_BL), jnp.argmax(logits_BLV, axis=-1) == target_BL


Task = NextToken
