"""Sampling: greedy, temperature, top-k, top-p; one pass over the prompt, then one scan over `Model.step`."""

import dataclasses
from functools import partial
from typing import Annotated

import jax
import jax.numpy as jnp

from seqjax import masks
from seqjax.types import Checked, Count, NonNegative, Range

ROUNDING = 2.0**-20  # relative tolerance: 0.5 + 0.3 in float32 must reach top_p=0.8


@dataclasses.dataclass(frozen=True)
class Sampling(Checked):
    """How the next token is drawn from logits.

        p = softmax(logits / temperature), restricted to the `top_k` likeliest tokens and then to the fewest
        whose total probability reaches `top_p`

    temperature 0 is greedy. Nucleus (top-p): Holtzman et al. 2020, arXiv:1904.09751.
    """

    temperature: NonNegative = 1.0
    top_k: Count | None = None
    top_p: Annotated[float, Range(above=0, most=1)] = 1.0

    def __call__(self, key, logits_BV):
        """Draws tokens (B,) from logits."""
        if self.temperature < jnp.finfo(jnp.float32).tiny:
            return jnp.argmax(logits_BV, axis=-1)
        logits_BV = logits_BV.astype(jnp.float32)  # noise in half precision would favour some of many tokens
        ahead_BV = logits_BV - jnp.max(logits_BV, axis=-1, keepdims=True)  # else a small temperature gives equal infs
        return jax.random.categorical(key, self.filter(ahead_BV / self.temperature), axis=-1)

    def filter(self, logits_BV):
        """Logits with -inf where a token may not be drawn. The likeliest token, first of equals, always may."""
        if self.top_k is not None and self.top_k < logits_BV.shape[-1]:
            _, best_BK = jax.lax.top_k(logits_BV, self.top_k)
            logits_BV = _only(logits_BV, best_BK, jnp.ones(best_BK.shape, bool))
        if self.top_p < 1:
            order_BV = jnp.argsort(logits_BV, axis=-1, descending=True)
            p_BV = jax.nn.softmax(jnp.take_along_axis(logits_BV, order_BV, axis=-1), axis=-1)
            sum_BV = jnp.cumsum(p_BV, axis=-1)
            before_BV = jnp.pad(sum_BV, ((0, 0), (1, 0)))[:, :-1]  # total probability of the likelier tokens
            logits_BV = _only(logits_BV, order_BV, before_BV < self.top_p * (1 - ROUNDING))
        return logits_BV


def _only(logits_BV, index_BK, may_BK):
    """Logits, with -inf except at the indices that may be drawn."""
    rows_B1 = jnp.arange(len(logits_BV))[:, None]
    return jnp.where(jnp.zeros(logits_BV.shape, bool).at[rows_B1, index_BK].set(may_BK), logits_BV, -jnp.inf)


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
      model: a causal model with a state; hashable, so that one compilation serves all calls.
      prompt_BL: int32 tokens, at least one real token per row; padding may be anywhere, under `mask_BL`.
      source_BS, source_mask_BS: the source of a seq2seq model; the prompt is then the beginning of the answers.

    Returns:
      int32 (B, length). The same key gives the same tokens; greedy sampling ignores the key.

    Raises:
      ValueError: the prompt is empty, `length` is below 1, or all tokens except the last exceed the model's capacity;
        the model has no state; a source is given to a model that reads none, or is missing for a model that reads one.
    """
    B, L = prompt_BL.shape
    if L == 0:
        raise ValueError("the prompt is empty: give at least one token to continue.")
    if length < 1:
        raise ValueError(f"length: got {length}, wanted at least one new token.")
    capacity, prefix = model.capacity, model.prefix
    need = L + length - 1  # the model never reads the last token
    if capacity is not None and need > capacity:
        raise ValueError(
            f"{L} tokens of prompt and {length} new ones need {need} places, the attention cache has {capacity}: "
            "ask for fewer tokens, or raise model.mixer.max_length."
        )
    if prefix > L:
        raise ValueError(
            f"the model reads the first {prefix} tokens as a whole, the prompt has {L}: give a longer one."
        )
    mask_BL = jnp.ones((B, L), bool) if mask_BL is None else mask_BL
    masks.check(mask_BL, (B, L))
    variables = {"params": params}
    if source_BS is None:
        state = model.init_state(B)
    else:
        state = model.apply(variables, source_BS, source_mask_BS, method="prefill")
    logits_BLV, state = model.apply(variables, prompt_BL, state, mask_BL=mask_BL)
    last_B = jnp.max(jnp.where(mask_BL, jnp.arange(L)[None, :], 0), axis=1)
    logits_BV = jnp.take_along_axis(logits_BLV, last_B[:, None, None], axis=1)[:, 0]

    draw = lambda key, logits_BV: sampling(key, logits_BV).astype(jnp.int32)

    def step(carry, key):
        token_B, state = carry
        logits_BV, state = model.apply(variables, token_B, state, method="step")
        next_B = draw(key, logits_BV)
        return (next_B, state), next_B

    keys = jax.random.split(key, length)
    first_B = draw(keys[0], logits_BV)
    _, tokens_LB = jax.lax.scan(step, (first_B, state), keys[1:])
    return jnp.concatenate([first_B[None], tokens_LB]).T
