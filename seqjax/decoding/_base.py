"""The contract of a decoder."""

import dataclasses
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from seqjax import masks
from seqjax.spec import Spec
from seqjax.types import Checked, Count, Injected, fields_of, marker


class Decoded(NamedTuple):
    """N continuations of each prompt, in the decoder's own order: the best one first if it ranks them."""

    tokens_BNL: jax.Array  # int32; 0 where masked
    mask_BNL: jax.Array  # True up to the end token, which is included
    score_BN: jax.Array  # float32: sum of log p(token | all before it) over the real tokens, in nats


@dataclasses.dataclass(frozen=True)
class Decoder(Checked):
    """Continues prompts: `(net, reads, key) -> Decoded`.

    `reads.x` (B, L) are the prompts under `reads.mask_BL`: padding may be anywhere, each row has a real token.
    `reads.side` is what else the model reads, such as a source. A continuation ends with `spec.end`, if the data have
    an end token, or else after `max_length` new tokens. None: after 2 S + 5 new tokens, if it answers a source of S
    tokens, or fewer if the attention cache holds no more; without a source, when prompt and continuation together have
    `spec.length` tokens, but after one new token at least. A decoder never sees a reference. The result of a row does
    not depend on the other rows, nor on padding.

    In `score_BN`, p is the distribution of the model itself: a temperature or a filter changes which tokens are drawn,
    but not what they score. So scores of different decoders can be compared.

    Raises:
      ValueError: see `check`; the model has no state; a source is given to a model that reads none, or is missing for a
        model that reads one.
    """

    spec: Annotated[Spec, Injected]
    max_length: Count | None = None

    def __call__(self, net, reads, key) -> Decoded:
        raise NotImplementedError

    @property
    def options(self) -> dict:
        """The options by name, for the record."""
        kinds = fields_of(type(self)).items()
        return {name: getattr(self, name) for name, (hint, _) in kinds if not marker(hint, Injected)}

    def check(self, model, L: int) -> None:
        """Refuses prompts of `L` tokens, padding included, that the model cannot continue.

        Raises:
          ValueError: the prompts are empty or shorter than the model's prefix, or the cache is too small.
        """
        if L == 0:
            raise ValueError("the prompt is empty: give at least one token to continue.")
        capacity, prefix = model.capacity, model.prefix
        new = self.max_length or (1 if self._answers else max(self.spec.length - L, 1))
        need = L + new - 1  # the model never reads the last token
        if capacity is not None and need > capacity:
            raise ValueError(
                f"{L} tokens of prompt and {new} new ones need {need} places, the attention cache has {capacity}: "
                "ask for fewer tokens, or raise model.mixer.max_length."
            )
        if prefix > L:
            raise ValueError(
                f"the model reads the first {prefix} tokens as a whole, the prompt has {L}: give a longer one."
            )

    def read(self, net, reads):
        """Reads the prompts -> logits_BV of the first new token, the state, and the limits on new tokens.

        The limits are that of each row, (B,), and the largest that any row could have, which is the length of the
        result.
        """
        B, L = reads.x.shape
        self.check(net.model, L)
        masks.check(reads.mask_BL, (B, L))
        side = dict(reads.side)
        source_BS, mask_BS = (side.pop(name, None) for name in ("source_BS", "source_mask_BS"))
        state = net.model.init_state(B) if source_BS is None else net.prefill(source_BS, mask_BS)
        out = net(reads._replace(side=side), state)
        last_B = jnp.max(jnp.where(reads.mask_BL, jnp.arange(L)[None], 0), axis=1)
        logits_BV = jnp.take_along_axis(out.prediction, last_B[:, None, None], axis=1)[:, 0]
        length_B = jnp.sum(reads.mask_BL, axis=1)
        if self.max_length:
            return logits_BV, out.carry, jnp.full(B, self.max_length), self.max_length
        if source_BS is None:
            return logits_BV, out.carry, jnp.maximum(self.spec.length - length_B, 1), max(self.spec.length - 1, 1)
        S = source_BS.shape[1]
        most_B, most = 2 * (jnp.full(B, S) if mask_BS is None else jnp.sum(mask_BS, axis=1)) + 5, 2 * S + 5
        if (capacity := net.model.capacity) is not None:
            most_B, most = jnp.minimum(most_B, capacity + 1 - length_B), min(most, capacity)
        return logits_BV, out.carry, most_B, most

    @property
    def _answers(self) -> bool:
        """Whether the model reads a source."""
        return self.spec.source_vocabulary is not None
