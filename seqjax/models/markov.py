"""A Markov chain of any order: an n-gram language model."""

import functools
from collections.abc import Callable
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax import masks
from seqjax.mixers._base import check_state
from seqjax.models._base import Model as _Model
from seqjax.ops import ngrams, smoothing
from seqjax.types import Dtype, Injected, Natural, Positive

SMOOTHING = {
    "additive": smoothing.additive,
    "witten_bell": lambda pseudocount: smoothing.witten_bell(),
    "stupid_backoff": lambda pseudocount: smoothing.stupid_backoff(),
    "kneser_ney": lambda pseudocount: smoothing.kneser_ney(),
    "modified_kneser_ney": lambda pseudocount: smoothing.kneser_ney(modified=True),
}


class Markov(_Model, kw_only=True):
    """Markov: counts which token follows the last `order` tokens, an n-gram language model.

        p(x_t+1 | x_1 ... x_t) = p(x_t+1 | x_t-order+1 ... x_t)

    The probabilities are smoothed counts of the train split, each document once. Where a document began less than
    `order` tokens ago, its start is part of the context. With c(h v) = how often the token v followed the context h,
    c(h) their sum, T(h) the number of different v, and h' = h without its oldest token (V tokens, each with 1 / V,
    below the empty context):

        additive              (c(h v) + a) / (c(h) + a V), of the longest h that was counted; a is the `pseudocount`
        witten_bell           (c(h v) + T(h) p(v | h')) / (c(h) + T(h))
        stupid_backoff        c(h v) / c(h) if that is not 0, else 0.4 s(v | h'); divided by the sum over v
        kneser_ney            (c(h v) - D) / c(h) + D T(h) / c(h) p(v | h'), at least 0 for the first term. D is
                              estimated for each order; below the highest, c counts the different tokens before h v
        modified_kneser_ney   as kneser_ney, with other D for counts of 1, 2, and 3 or more

    Nothing is learnt by gradients: the table is counted before the first step (a second per million tokens and ten
    orders), and is a part of each checkpoint like parameters: set learner.name="fixed" and train.steps=1. The n-grams
    count as parameters, at about 17 bytes each. The state is the last `order` tokens.

    Additive: Lidstone. Witten and Bell 1991, IEEE Transactions on Information Theory 37(4). Brants et al. 2007, EMNLP.
    Kneser and Ney 1995, ICASSP, interpolated, and modified: Chen and Goodman 1999, Computer Speech and Language 13(4).

    Raises:
      ValueError: the data have no tokens, the task is not to predict the next one, or there is too little data for the
        discounts of Kneser-Ney.
    """

    order: Natural
    smoothing: Literal["additive", "witten_bell", "stupid_backoff", "kneser_ney", "modified_kneser_ney"] = (
        "modified_kneser_ney"
    )
    pseudocount: Positive = 1.0
    documents: Annotated[Callable, Injected]  # () -> all tokens of the train split, and where documents begin
    dtype: Annotated[Dtype, Injected] = "float32"

    sized_by = "order"
    counted = True
    indices = ("oldest", "child", "first", "back_off", "token")

    def __post_init__(self):
        super().__post_init__()
        if self.smoothing != "additive" and self.pseudocount != 1:
            raise ValueError(
                f"pseudocount={self.pseudocount:g} is for smoothing='additive', got {self.smoothing!r}: remove one."
            )
        if self.inputs.vocabulary is None:
            raise ValueError("n-grams are of tokens, and these data have features: choose data with tokens.")
        head = self.head(inputs=self.inputs, width=1, parent=None)
        if not head.stepwise or head.outputs != self.inputs.vocabulary:
            raise ValueError(
                f"a Markov chain predicts which of {self.inputs.vocabulary} tokens comes next, and this task asks for "
                f"{head.outputs} outputs per {'token' if head.stepwise else 'sequence'}: choose task.name='next_token'."
            )

    @nn.nowrap
    def init_state(self, batch: int):
        """The last `order` tokens, newest last, and how many of them were read."""
        return {"tokens_BN": jnp.zeros((batch, self.order), jnp.int32), "count_B": jnp.zeros(batch, jnp.int32)}

    def setup(self):
        how = (self.documents, self.inputs.vocabulary, self.order, self.smoothing, self.pseudocount)
        found = {name: a for name, a in counted(*how)._asdict().items() if a.size}  # order 0 has no contexts
        made = {name: self.param(name.rpartition("_")[0], lambda _, a=a: jnp.asarray(a)) for name, a in found.items()}
        self.table = ngrams.Table(**made)

    def __call__(self, tokens_BL, state=None, *, mask_BL=None, reset_BL=None, deterministic=True):
        """Tokens (B, L) -> log p of the next token (B, L, V), zero where masked."""
        self.check(tokens_BL, state, mask_BL, reset_BL)
        B, L = tokens_BL.shape
        n, V = self.order, self.inputs.vocabulary
        before = self.init_state(B) if state is None else state
        real_BL = jnp.ones((B, L), bool) if mask_BL is None else mask_BL
        # Real tokens side by side, behind those of the state: n + L places, of which the last ones may be empty.
        place_BL = n - 1 + jnp.cumsum(real_BL, axis=1)
        history_BM = jnp.pad(before["tokens_BN"], ((0, 0), (0, L)))
        to_BL = jnp.where(real_BL, place_BL, n + L)
        history_BM = history_BM.at[jnp.arange(B)[:, None], to_BL].set(tokens_BL.astype(jnp.int32), mode="drop")
        known_BL = 1 + masks.positions((B, L), mask_BL, reset_BL, before["count_B"])
        back_n11, known_1BL = jnp.arange(n)[:, None, None], known_BL[None]
        place_nBL = jnp.maximum(place_BL[None] - back_n11, 0)
        symbols_nBL = jnp.take_along_axis(history_BM[None], place_nBL, axis=2)
        symbols_nBL = jnp.where(back_n11 < known_1BL, symbols_nBL, jnp.where(back_n11 == known_1BL, V, V + 1))
        log_p_BLV = ngrams.look_up(self.table, symbols_nBL, longest=self.smoothing == "additive")
        if self.smoothing == "stupid_backoff":
            log_p_BLV = jax.nn.log_softmax(log_p_BLV)
        prediction_BLV = masks.fill(log_p_BLV, mask_BL)
        if state is None:
            return prediction_BLV, None
        newest_BN = place_BL[:, -1:] - n + 1 + jnp.arange(n)[None, :]
        last_BN = jnp.take_along_axis(history_BM, newest_BN, axis=1)
        return prediction_BLV, {"tokens_BN": last_BN, "count_B": jnp.minimum(known_BL[:, -1], n)}

    @nn.nowrap
    def check(self, tokens_BL, state, mask_BL, reset_BL) -> None:
        """Raises ValueError unless all inputs fit together."""
        shown = f"{tokens_BL.dtype}{list(tokens_BL.shape)}"
        if tokens_BL.ndim != 2 or not jnp.issubdtype(tokens_BL.dtype, jnp.integer):
            raise ValueError(f"tokens: got {shown}, a Markov chain wants [B, L] integers.")
        if 0 in tokens_BL.shape:
            raise ValueError(f"tokens: got {shown}, a Markov chain wants at least one row and one token.")
        masks.check(mask_BL, tokens_BL.shape)
        masks.check(reset_BL, tokens_BL.shape, "reset_BL")
        if state is not None:
            check_state("Markov", state, self.init_state, len(tokens_BL))


@functools.lru_cache(2)  # JAX traces a model several times
def counted(documents: Callable, V: int, order: int, kind: str, pseudocount: float) -> ngrams.Table:
    """The table of a text."""
    return ngrams.table(ngrams.count(*documents(), V, order), SMOOTHING[kind](pseudocount))


Model = Markov
