"""Predict the next token."""

import dataclasses
import math

import jax.numpy as jnp

from seqjax import masks
from seqjax.metrics import Perplexity, Ratio
from seqjax.ops import losses
from seqjax.tasks import _base
from seqjax.types import Natural


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
    """

    prompt_length: Natural = 0
    carry_state: bool = False

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
        return {"loss": "less", "accuracy": "more", f"bits_per_{self.spec.unit}": "less", **text, **scored}

    def outputs(self) -> int:
        return self.spec.vocabulary

    def reads(self, batch):
        reset_BL = batch["reset"][:, :-1] if "reset" in batch else None
        side = {"source_BS": batch["source"], "source_mask_BS": batch["mask_S"]} if "source" in batch else {}
        return _base.Reads(batch["tokens"][:, :-1], batch["mask"][:, :-1], reset_BL, side)

    def sequence(self, batch):
        if self.carry_state:  # the last token is the first one of the next batch
            return self.reads(batch)
        return _base.Reads(batch["tokens"], batch["mask"], batch.get("reset"), self.reads(batch).side)

    def length(self, L):
        return L - 1

    def loss(self, prediction, batch):
        target_BL = batch["tokens"][:, 1:]
        weight_BL = batch["mask"][:, 1:] * batch["weight"][:, None]
        if "reset" in batch:
            weight_BL = weight_BL * ~batch["reset"][:, 1:]
        if self.prompt_length:
            place_BL = masks.positions(batch["mask"].shape, batch["mask"], batch.get("reset"))
            weight_BL = weight_BL * (place_BL[:, 1:] >= self.prompt_length)
        nll_BL = losses.cross_entropy(prediction, target_BL)
        right_BL = jnp.argmax(prediction, axis=-1) == target_BL
        metrics = {}
        if "scored" in batch:
            weight_BL = weight_BL * batch["scored"][:, 1:]
            right_B = jnp.all(right_BL | (weight_BL == 0), axis=1)
            metrics["exact_match"] = Ratio.of(right_B, batch["weight"] * jnp.any(weight_BL > 0, axis=1))
        loss = Ratio.of(nll_BL, weight_BL)
        if "span" in batch:
            characters = Ratio.of(batch["span"][:, 1:], weight_BL).total
            metrics["perplexity"] = Perplexity(*loss)
            metrics["bits_per_character"] = Ratio(loss.total / math.log(2), characters)
        return {
            "loss": loss,
            "accuracy": Ratio.of(right_BL, weight_BL),
            f"bits_per_{self.spec.unit}": Ratio.of(nll_BL / math.log(2), weight_BL),
            **metrics,
        }


Task = NextToken
