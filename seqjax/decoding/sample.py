"""Sampling: greedy, temperature, top-k, top-p; one pass over the prompt, then one scan over `Model.step`."""

import dataclasses
from functools import partial
from typing import Annotated

import jax
import jax.numpy as jnp

from seqjax import masks
from seqjax.types import Checked, Count, NonNegative, Range


@dataclasses.dataclass(frozen=True)
class Sampling(Checked):
    """How the next token is drawn from logits.

        p = softmax(logits / temperature), kept to the `top_k` likeliest tokens and then to the fewest whose
        probability reaches `top_p`

    temperature 0 is greedy. Nucleus (top-p): Holtzman et al. 2020, arXiv:1904.09751.
    """

    temperature: NonNegative = 1.0
    top_k: Count | None = None
    top_p: Annotated[float, Range(above=0, most=1)] = 1.0

    def __call__(self, key, logits_BV):
        """Tokens (B,) drawn from logits."""
        if self.temperature == 0:
            return jnp.argmax(logits_BV, axis=-1)
        return jax.random.categorical(key, self.filter(logits_BV / self.temperature), axis=-1)

    def filter(self, logits_BV):
        """Logits with -inf where a token may not be drawn. The likeliest token always may."""
        if self.top_k is not None and self.top_k < logits_BV.shape[-1]:
            least_B1 = jax.lax.top_k(logits_BV, self.top_k)[0][:, -1:]
            logits_BV = jnp.where(logits_BV >= least_B1, logits_BV, -jnp.inf)
        if self.top_p < 1:
            sorted_BV = jnp.sort(logits_BV, axis=-1, descending=True)
            p_BV = jax.nn.softmax(sorted_BV, axis=-1)
            before_BV = jnp.cumsum(p_BV, axis=-1) - p_BV  # what the likelier tokens have already
            least_B1 = jnp.min(jnp.where(before_BV < self.top_p, sorted_BV, jnp.inf), axis=-1, keepdims=True)
            logits_BV = jnp.where(logits_BV >= least_B1, logits_BV, -jnp.inf)
        return logits_BV


@partial(jax.jit, static_argnames=("model", "length", "sampling"))
def sample(
    model,
    params,
    prompt_BL,
    key,
    *,
    length: int,
    sampling: Sampling = Sampling(),
    mask_BL=None,
    source_BS=None,
    source_mask_BS=None,
):
    """Continues prompts by `length` tokens each.

    Args:
      model: a causal model; hashable, so that one compilation serves all calls.
      prompt_BL: int32 tokens, at least one real per row; padded anywhere under `mask_BL`.
      source_BS, source_mask_BS: what a seq2seq model reads before; its prompt is what its answers begin with.

    Returns:
      int32 (B, length). The same key gives the same tokens; greedy needs no key but takes one.

    Raises:
      ValueError: the prompt is empty, or prompt and continuation outgrow the model's cache; a source that the model
        does not read, or none where it does.
    """
    B, L = prompt_BL.shape
    if L == 0:
        raise ValueError("the prompt is empty: give at least one token to go on from.")
    # A model of one's own may have neither.
    room, prefix = getattr(model, "room", None), getattr(model, "prefix", 0)
    if room is not None and L + length > room:
        raise ValueError(
            f"{L} tokens of prompt and {length} new ones need {L + length} places, the attention cache has {room}: "
            "ask for fewer, or set model.mixer.context."
        )
    if prefix > L:
        raise ValueError(f"the model reads the first {prefix} tokens as a whole, the prompt has {L}: give more.")
    mask_BL = jnp.ones((B, L), bool) if mask_BL is None else mask_BL
    masks.check(mask_BL, (B, L))
    variables = {"params": params}
    if source_BS is None:
        state = model.init_state(B)
    elif hasattr(model, "prefill"):
        state = model.apply(variables, source_BS, source_mask_BS, method="prefill")
    else:
        raise ValueError(f"{type(model).__name__} reads no source: leave source_BS out, or train model.name='seq2seq'.")
    logits_BLV, state = model.apply(variables, prompt_BL, state, mask_BL=mask_BL)
    last_B = jnp.max(jnp.where(mask_BL, jnp.arange(L)[None, :], 0), axis=1)
    logits_BV = jnp.take_along_axis(logits_BLV, last_B[:, None, None], axis=1)[:, 0]

    def step(carry, key):
        logits_BV, state = carry
        token_B = sampling(key, logits_BV).astype(jnp.int32)
        logits_BV, state = model.apply(variables, token_B, state, method="step")
        return (logits_BV, state), token_B

    _, tokens_LB = jax.lax.scan(step, (logits_BV, state), jax.random.split(key, length))
    return tokens_LB.T
