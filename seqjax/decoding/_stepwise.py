"""Decoders that choose one token after the other: one pass over the prompts, then one loop over `Model.step`."""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax.decoding._base import Decoded, Decoder


class Drawn(NamedTuple):
    """The rows so far: M of them, N for each prompt."""

    token_M: jax.Array
    alive_M: jax.Array  # False: the row has ended
    count_M: jax.Array  # of tokens, the end token included
    score_M: jax.Array
    tokens_TM: jax.Array  # time first, so that a step writes one place
    state: Any


@dataclasses.dataclass(frozen=True)
class Stepwise(Decoder):
    """Chooses each token by `choose`; tokens after the end change nothing."""

    samples = 1  # continuations of each prompt

    def choose(self, key, logits_BV) -> jax.Array:
        """The next token of each row (B,)."""
        raise NotImplementedError

    def __call__(self, net, reads, key) -> Decoded:
        *first, T = self.read(net, reads)
        if (N := self.samples) > 1:
            first = jax.tree.map(partial(jnp.repeat, repeats=N, axis=0), first)
        logits_MV, state, most_M = first
        M = len(most_M)

        def draw(t, logits_MV, row: Drawn) -> Drawn:
            token_M = self.choose(jax.random.fold_in(key, t), logits_MV).astype(jnp.int32)
            log_p_MV = jax.nn.log_softmax(logits_MV.astype(jnp.float32))
            log_p_M = jnp.take_along_axis(log_p_MV, token_M[:, None], axis=1)[:, 0]
            kept_M, count_M = jnp.where(row.alive_M, token_M, 0), row.count_M + row.alive_M
            goes_on_M = row.alive_M & (count_M < most_M)
            return Drawn(
                token_M=token_M,
                alive_M=goes_on_M if self.spec.end is None else goes_on_M & (token_M != self.spec.end),
                count_M=count_M,
                score_M=row.score_M + jnp.where(row.alive_M, log_p_M, 0),
                tokens_TM=jax.lax.dynamic_update_index_in_dim(row.tokens_TM, kept_M, t, axis=0),
                state=row.state,
            )

        def step(t, row: Drawn) -> Drawn:
            logits_MV, state = net.step(row.token_M, row.state)
            return draw(t, logits_MV, row._replace(state=state))

        zeros = partial(jnp.zeros, M)
        start = Drawn(zeros(int), jnp.ones(M, bool), zeros(int), zeros(), jnp.zeros((T, M), int), state)
        row = draw(0, logits_MV, start)
        if self.spec.end is None and self.max_length:  # all rows end together: the device need not look
            row = jax.lax.fori_loop(1, T, step, row)
        else:
            go_on = lambda carry: (carry[0] < T) & jnp.any(carry[1].alive_M)
            _, row = jax.lax.while_loop(go_on, lambda carry: (carry[0] + 1, step(*carry)), (1, row))
        mask_MT = jnp.arange(T)[None] < row.count_M[:, None]
        split = lambda a: a.reshape(-1, N, *a.shape[1:])
        return Decoded(split(row.tokens_TM.T), split(mask_MT), split(row.score_M))
