"""Predict a tag for every token."""

import dataclasses
import functools
from typing import Literal

import jax
import jax.numpy as jnp

from seqjax.metrics import F1, Ratio
from seqjax.ops import crf
from seqjax.ops.spans import agree
from seqjax.spans import Mode, Scheme
from seqjax.tasks import _base


@dataclasses.dataclass(frozen=True)
class Tag(_base.Task):
    """Tagging: the negative log-likelihood of the tags, given the whole sequence, per token.

        loss = - sum log p(tags | x) / number of real tokens      in nats

    The head says what p is: logits make it a softmax per token (cross-entropy), `crf` a conditional random field. The
    source gives `tags` (ids, one per token). The model reads `tokens` or `features`, and `characters` if there are any.
    If the source gives `scored`, other tokens have no tag: pieces of a word after its first. Learners that count are
    told the tags, or, if the source gives `allowed` (bool, one flag per tag), which tags a token may have: one, some,
    or all. Also reported, of the most probable tags: `accuracy`, and, if the source marks `unknown` tokens,
    `unknown_accuracy`, that of these tokens.

    If the tags mark spans (BIO, BIOES or BILOU), precision, recall and F1 of spans are reported: a span is right if its
    type, begin and end are. `spans`: "strict" (only what is written as the scheme says is a span; `strict_f1`, ...) or
    "lenient" (as conlleval: runs of one type; `lenient_f1`, ...). `per_type`: also the F1 of each type.
    `constraints`: where tags that the scheme forbids are left out: "none"; "decoding"; or "training", of decoding and
    of p. They hold for every head.

    Raises:
      ValueError: the source has no tags, or constraints are asked for, and its tags mark no spans.
    """

    monitor: str = "accuracy"
    constraints: Literal["none", "decoding", "training"] = "none"
    spans: Mode = "strict"
    per_type: bool = False

    joint = True

    def __post_init__(self):
        if "tags" not in self.spec.fields:
            raise ValueError(f"tag needs the field tags, this source has {', '.join(self.spec.fields)}: choose others.")
        super().__post_init__()
        for option, given in (("constraints", self.constraints != "none"), ("per_type", self.per_type)):
            if given and self.scheme is None:
                raise ValueError(
                    f"{option}={getattr(self, option)!r} needs tags that mark spans, such as B-person and I-person: "
                    f"remove {option}, or choose other data."
                )

    @functools.cached_property
    def scheme(self) -> Scheme | None:
        """What the tags mean, if they mark spans."""
        return Scheme.of(self.spec.fields["tags"].names)

    @property
    def metrics(self):
        unknown = {"unknown_accuracy": "more"} if "unknown" in self.spec.fields else {}
        return {"loss": "less", "accuracy": "more", **unknown, **dict.fromkeys(self._of_spans, "more")}

    @property
    def _of_spans(self) -> list[str]:
        """The names of the metrics of spans."""
        if self.scheme is None:
            return []
        types = [f"{self.spans}_f1_{of}" for of in self.scheme.types] if self.per_type else []
        return [f"{self.spans}_{name}" for name in ("f1", "precision", "recall")] + types

    def outputs(self):
        return self.spec.fields["tags"].size

    def reads(self, batch):
        reads = super().reads(batch)
        if "characters" not in self.spec.fields:
            return reads
        return reads._replace(x={"tokens": reads.x, "characters": batch["characters"]})

    def known(self, batch):
        """The tags of all tokens, or, if the source gives `allowed` (bool, one per tag), those that each may have."""
        tags = self.spec.fields["tags"].size
        return {"allowed_BLK": batch["allowed"] if "allowed" in batch else jax.nn.one_hot(batch["tags"], tags) > 0}

    def potentials(self, prediction) -> tuple[crf.Potentials, crf.Potentials]:
        """The scores of tags in training, and in decoding."""
        free = crf.Potentials.of(prediction)
        if self.constraints == "none":
            return free, free
        bound = free.within(*self.scheme.allowed)
        return bound if self.constraints == "training" else free, bound

    def loss(self, prediction, batch):
        mask_BL = batch["mask"] & batch["scored"] if "scored" in batch else batch["mask"]
        weight_BL = mask_BL * batch["weight"][:, None]
        trained, decoded = self.potentials(prediction)
        log_p_B = crf.log_likelihood(trained, batch["tags"], mask_BL=mask_BL)
        tags_BL, _ = crf.decode(decoded, mask_BL=mask_BL)
        right_BL = tags_BL == batch["tags"]
        metrics = {
            "loss": Ratio(Ratio.of(-log_p_B, batch["weight"]).total, jnp.sum(weight_BL)),
            "accuracy": Ratio.of(right_BL, weight_BL),
        }
        if "unknown" in batch:
            metrics["unknown_accuracy"] = Ratio.of(right_BL, weight_BL * batch["unknown"])
        if self.scheme is None:
            return metrics
        of_T = agree(getattr(self.scheme, self.spans), tags_BL, batch["tags"], mask_BL=weight_BL > 0)
        tp, fp, fn = map(jnp.sum, of_T)
        each = [F1(*of) for of in zip(*of_T, strict=True)] if self.per_type else []
        found = [F1(tp, fp, fn), Ratio(tp, tp + fp), Ratio(tp, tp + fn), *each]
        return metrics | dict(zip(self._of_spans, found, strict=True))


Task = Tag
