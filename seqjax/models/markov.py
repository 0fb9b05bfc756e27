"""A Markov chain of any order: an n-gram language model, or one for each class."""

import functools
from collections.abc import Callable
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
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
    """Markov: counts which token follows the last `order` tokens: an n-gram language model, or one for each class.

        p(x_t+1 | x_1 ... x_t) = p(x_t+1 | x_t-order+1 ... x_t)                       task next_token
        log p(x_1 ... x_L, c) = log p(c) + sum_t log p(x_t | x_t-order ... x_t-1, c)  task classification

    As a classifier it has a language model per class, counted in the documents of this class, and the share of these
    among all documents is p(c). Its logits are these sums, so a softmax makes them the posterior of the class. The
    order 0 is naive Bayes. That a document ends is no token, and adds nothing.

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
      ValueError: the data have no tokens, the task wants other predictions, a class has no document, or there is too
        little data, of one class, for the discounts of Kneser-Ney.
    """

    order: Natural
    smoothing: Literal["additive", "witten_bell", "stupid_backoff", "kneser_ney", "modified_kneser_ney"] = (
        "modified_kneser_ney"
    )
    pseudocount: Positive = 1.0
    documents: Annotated[Callable, Injected]  # () -> tokens of the train split, where documents begin, their classes
    dtype: Annotated[Dtype, Injected] = "float32"

    sized_by = "order"
    counted = True
    indices = ("oldest", "child", "first", "back_off", "token", "root")
    vectors = ("unigram",)

    def __post_init__(self):
        super().__post_init__()
        if self.smoothing != "additive" and self.pseudocount != 1:
            raise ValueError(
                f"pseudocount={self.pseudocount:g} is for smoothing='additive', got {self.smoothing!r}: remove one."
            )
        if self.inputs.vocabulary is None:
            raise ValueError("n-grams are of tokens, and these data have features: choose data with tokens.")
        head = self.head(inputs=self.inputs, width=1, parent=None)
        if head.outputs != (self.inputs.vocabulary if head.stepwise else self.inputs.classes):
            raise ValueError(
                f"a Markov chain predicts the class, or which of {self.inputs.vocabulary} tokens comes next, and this "
                f"task asks for {head.outputs} outputs per {'token' if head.stepwise else 'sequence'}: choose "
                "task.name='next_token' or 'classification'."
            )

    @property
    def classes(self) -> int | None:
        """The number of classes C; None: a language model."""
        head = self.head(inputs=self.inputs, width=1, parent=None)
        return None if head.stepwise else head.outputs

    @nn.nowrap
    def init_state(self, batch: int):
        """The last `order` tokens, newest last, and how many of them were read; a classifier has no state."""
        return super().init_state(batch) if self.classes else self._unread(batch)

    @nn.nowrap
    def _unread(self, batch: int):
        return {"tokens_BN": jnp.zeros((batch, self.order), jnp.int32), "count_B": jnp.zeros(batch, jnp.int32)}

    def setup(self):
        how = (self.inputs.vocabulary, self.order, self.smoothing, self.pseudocount)
        found = counted(self.documents, *how, self.classes)
        made = {name: self.param(name, lambda _, a=a: jnp.asarray(a)) for name, a in found.items() if a.size}
        arrays = {field: made.get(field.rpartition("_")[0]) for field in ngrams.Table._fields}
        self.table = ngrams.Table(**arrays)  # order 0 has no n-grams
        if self.classes:
            self.root, self.prior = made["root"], made["prior"]

    def __call__(self, tokens_BL, state=None, *, mask_BL=None, reset_BL=None, deterministic=True):
        """Tokens (B, L) -> log p of the next token (B, L, V), zero where masked; or logits (B, C)."""
        self.check(tokens_BL, state, mask_BL, reset_BL)
        B, L = tokens_BL.shape
        n, V = self.order, self.inputs.vocabulary
        before = self._unread(B) if state is None else state
        real_BL = jnp.ones((B, L), bool) if mask_BL is None else mask_BL
        # Real tokens side by side, behind those of the state: n + L places, of which the last ones may be empty.
        place_BL = n - 1 + jnp.cumsum(real_BL, axis=1)
        history_BM = jnp.pad(before["tokens_BN"], ((0, 0), (0, L)))
        to_BL = jnp.where(real_BL, place_BL, n + L)
        history_BM = history_BM.at[jnp.arange(B)[:, None], to_BL].set(tokens_BL.astype(jnp.int32), mode="drop")
        known_BL = 1 + masks.positions((B, L), mask_BL, reset_BL, before["count_B"])
        own = 1 if self.classes else 0  # a classifier predicts each token that it reads, from those before it
        back_n11, known_1BL = own + jnp.arange(n)[:, None, None], known_BL[None]
        place_nBL = jnp.maximum(place_BL[None] - back_n11, 0)
        symbols_nBL = jnp.take_along_axis(history_BM[None], place_nBL, axis=2)
        symbols_nBL = jnp.where(back_n11 < known_1BL, symbols_nBL, jnp.where(back_n11 == known_1BL, V, V + 1))
        if self.classes:
            return self._joint(symbols_nBL, masks.fill(tokens_BL, mask_BL), mask_BL), None
        prediction_BLV = masks.fill(self._log_p(self.table, symbols_nBL), mask_BL)
        if state is None:
            return prediction_BLV, None
        newest_BN = place_BL[:, -1:] - n + 1 + jnp.arange(n)[None, :]
        last_BN = jnp.take_along_axis(history_BM, newest_BN, axis=1)
        return prediction_BLV, {"tokens_BN": last_BN, "count_B": jnp.minimum(known_BL[:, -1], n)}

    def _log_p(self, table, symbols_nBL, root=0):
        log_p_BLV = ngrams.look_up(table, symbols_nBL, root=root, longest=self.smoothing == "additive")
        return jax.nn.log_softmax(log_p_BLV) if self.smoothing == "stupid_backoff" else log_p_BLV

    def _joint(self, symbols_nBL, tokens_BL, mask_BL):
        """log p(x_1 ... x_L, c): (B, C)."""

        def of_class(one):
            unigram_V, root, log_prior = one
            log_p_BLV = self._log_p(self.table._replace(unigram_V=unigram_V), symbols_nBL, root)
            log_p_BL = jnp.take_along_axis(log_p_BLV, tokens_BL[..., None], axis=2)[..., 0]
            return log_prior + jnp.sum(masks.fill(log_p_BL, mask_BL), axis=1)

        # One class after the other: (B, L, V) for all of them may not fit into memory.
        return jax.lax.map(of_class, (self.table.unigram_V, self.root, self.prior)).T

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
def counted(documents: Callable, V: int, order: int, kind: str, pseudocount: float, classes: int | None) -> dict:
    """The parameters: the table of a text, or those of all classes side by side, and log p(c)."""
    tokens_M, start_M, label_M = documents()
    table = lambda *text: ngrams.table(ngrams.count(*text, V, order), SMOOTHING[kind](pseudocount))
    named = lambda table: {field.rpartition("_")[0]: a for field, a in table._asdict().items()}
    if classes is None:
        return named(table(tokens_M, start_M))
    count_C = np.bincount(label_M[start_M], minlength=classes)
    tables = []
    for c in range(classes):
        if not count_C[c]:
            raise ValueError(f"class {c} has no document in train, and none of its n-grams can be counted: give some.")
        try:
            tables.append(table(tokens_M[label_M == c], start_M[label_M == c]))
        except ValueError as error:
            raise ValueError(f"class {c}: {error}") from error
    together, root_C = ngrams.joined(tables)
    return named(together) | {"root": root_C, "prior": np.log(count_C / count_C.sum()).astype(np.float32)}


Model = Markov
