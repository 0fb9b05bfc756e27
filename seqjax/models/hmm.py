"""Hidden Markov models: language models, taggers and classifiers."""

from collections.abc import Callable
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax import masks
from seqjax.emissions._network import Network
from seqjax.emissions.categorical import Categorical
from seqjax.emissions.gaussian import Gaussian
from seqjax.heads.density import Density
from seqjax.heads.pooled import Pooled
from seqjax.heads.tokenwise import Tokenwise
from seqjax.mixers._base import check_state
from seqjax.models._expectation import Expectation
from seqjax.models._inference import mixed, posterior
from seqjax.models._topology import Topology
from seqjax.ops import chain
from seqjax.types import Count, Part, Range

Concentration = Annotated[float, Range(least=1)]


class HMM(Expectation, kw_only=True):
    """Hidden Markov model: a hidden state moves at each token, and the token depends on the state alone.

        p(x, z) = p(z_1) p(x_1 | z_1) prod_{t > 1} p(z_t | z_{t-1}) p(x_t | z_t)

    What it predicts depends on the task; it has no head, and no options of one. The next token: log p(x_{t+1} | x_1 ...
    x_t), normalised; the state is the filter log p(z_t | x_1 ... x_t), in float32. Density: log p(x_t | x_1 ...
    x_{t-1}). A tag per token: the states are the tags, log p(z_t | x_1 ... x_L). A class per sequence: one model of
    `states` states for each class c, log p(x | c) + log p(c).

    `states` None: one for each tag. `topology`: "ergodic" (all moves), "left_right" (a state is never left for an
    earlier one; starts in state 0), "linear" (a state is kept, or left for the next one; starts in state 0), or rows of
    0 and 1: row i says which states may follow state i; one more row before them says which may be the first. A move
    that is not allowed is no parameter. `emission` None: categorical for tokens, Gaussian for features.

    `transition_width` None: a logit for each allowed move. A number: the moves come from a network over embeddings of
    the states, as wide as this, as the ids of the emission `neural` do: a neural hidden Markov model has both. Then K
    states have K, not K^2, parameters, and only `gradient` trains them.

    `start_concentration`, `transition_concentration`: of symmetric Dirichlet priors, of which `em` and `count` take the
    mode: p ~ count + concentration - 1; 1 is maximum likelihood. `initial`: "data" starts from the first batch (equal
    segments of each sequence if the topology is left_right or linear; k-means for features, the best of `n_init`
    starts, if not); "random" draws all parameters.

    Rabiner 1989, "A tutorial on hidden Markov models", https://doi.org/10.1109/5.18626. Networks: see `neural`.

    Raises:
      ValueError: the task asks for something else, or has set options of a head; `states` is missing; or the topology
        does not fit them.
    """

    states: Count | None = None
    topology: Literal["ergodic", "left_right", "linear"] | tuple[tuple[int, ...], ...] = "ergodic"
    emission: Annotated[Callable | None, Part("seqjax.emissions", "Emission")] = None
    start_concentration: Concentration = 1.0
    transition_concentration: Concentration = 1.0
    transition_width: Count | None = None
    initial: Literal["data", "random"] = "data"
    n_init: Count = 1

    vectors = ("start", "transition", "prior")
    sized_by = "states"
    begins = True

    def __post_init__(self):
        if isinstance(self.topology, (list, tuple)):  # a list has no hash, as a module needs
            rows = tuple(tuple(row) if isinstance(row, list) else row for row in self.topology)
            object.__setattr__(self, "topology", rows)
        super().__post_init__()
        self.check_task()
        self.moves, self.make_emission(parent=None)  # their errors

    def setup(self):
        self.emits = self.make_emission(name="emission")
        init, counts = nn.initializers.normal(1.0), dict(zip(("start", "transition"), self.moves.logits, strict=True))
        made = {}
        if self.transition_width is not None:
            del counts["transition"]
            table_CKK = self.make_network(name="transition")().reshape(self.classes, self.size, self.size)
            made["transition"] = self.moves.free(jnp.pad(table_CKK, ((0, 0), (1, 0), (0, 0))))[1]
        self.own = made | {name: self.param(name, init, (self.classes, n)) for name, n in counts.items() if n}
        if self.classifies:
            self.prior_logits = self.param("prior", nn.initializers.zeros, (self.classes,))

    # ---- Which model it is.

    @property
    def answer(self) -> nn.Module:
        """The head that the task would like, of which only the kind and the size are used."""
        return self.head(inputs=self.inputs, width=1, parent=None)

    @property
    def classifies(self) -> bool:
        """Whether there is one model per class."""
        return isinstance(self.answer, Pooled)

    @property
    def classes(self) -> int:
        """C, the number of models."""
        return self.answer.outputs if self.classifies else 1

    @property
    def tags(self) -> bool:
        """Whether the states are the tags of the data."""
        return self.states is None

    @property
    def size(self) -> int:
        """K, the number of states of one model."""
        return self.inputs.fields["tags"].size if self.tags else self.states

    @property
    def ahead(self):
        """A tag depends on all tokens, and so does a class."""
        return (f"{type(self).__name__} with model.states=None",) if self.tags else ()

    @property
    def side(self):
        """Which features are given, if some may be missing."""
        missing = "features" in self.inputs.fields and self.inputs.fields["features"].missing
        return ("observed_BLF",) if missing else ()

    @property
    def moves(self) -> Topology:
        """The allowed moves."""
        return Topology(self.topology, self.size, self.classes)

    def check_task(self) -> None:
        """Raises ValueError unless the head of the task is one that an HMM can answer in place of."""
        head, inputs = self.answer, self.inputs
        kind = type(head)
        if kind not in (Tokenwise, Pooled, Density) or head != kind(
            inputs=inputs, outputs=head.outputs, width=1, dtype=head.dtype, parent=None
        ):
            raise ValueError(
                "an HMM has no head, as its predictions are log-probabilities of its own, but task.head is "
                f"{kind.__name__} or has options: leave task.head out."
            )
        tags = inputs.fields["tags"].size if "tags" in inputs.fields else None
        if self.tags and (tags is None or kind is Pooled):
            raise ValueError("model.states is missing: only a tagger has one state for each tag of the data; set it.")
        if self.tags and head.outputs != tags:
            raise ValueError(
                f"model.states=None makes an HMM that predicts one of {tags} tags, but the task wants {head.outputs} "
                "outputs: set model.states, or choose the task tag."
            )
        if kind is Tokenwise and not self.tags and (head.outputs != inputs.vocabulary or tags == inputs.vocabulary):
            raise ValueError(
                f"an HMM of {self.states} states predicts tokens, and the task asks for {head.outputs} outputs per "
                "token: for tags leave model.states out, or choose another model."
            )

    @nn.nowrap
    def make_emission(self, **kwargs):
        """The emission of all states of all classes; unbound unless called in `setup`."""
        make = self.emission or (Categorical if self.inputs.vocabulary is not None else Gaussian)
        return make(inputs=self.inputs, states=self.classes * self.size, groups=self.classes, **kwargs)

    @nn.nowrap
    def make_network(self, **kwargs) -> Network:
        """The network of the transitions of all classes, if there is one."""
        sizes = dict(rows=self.classes * self.size, columns=self.size)
        return Network(**sizes, width=self.transition_width, layers=1, **kwargs)

    @nn.nowrap
    def init_state(self, batch: int):
        if self.classifies or self.tags:
            kind = "classifies whole sequences" if self.classifies else "tags whole sequences"
            raise ValueError(f"this HMM {kind}, so it has no state: choose a task with a prediction per token.")
        return jnp.zeros((batch, self.size), jnp.float32)

    @property
    def concentrations(self) -> tuple[float, float]:
        """Those of the priors of the start and of the transitions."""
        return self.start_concentration, self.transition_concentration

    # ---- What it predicts.

    @nn.nowrap
    def logits_of(self, params):
        """The logits of the start and the transitions, (C, ...) each; none for moves that are certain."""
        return tuple(params.get(name, jnp.zeros((self.classes, 0))) for name in ("start", "transition"))

    def logits(self):
        """Those of its own parameters."""
        return self.logits_of(self.own)

    def scores(self, x, mask_BL=None, observed_BLF=None):
        """Fields of a batch -> x as the emission reads it, and log p(x_t | z_t = k): (B, L, C K)."""
        x = masks.fill(x["tokens"] if isinstance(x, dict) else x, mask_BL)
        if 0 in x.shape[:2]:
            raise ValueError(f"x is {list(x.shape)}, an HMM wants at least one row and one token.")
        return x, self.emits(x, observed_BLF)

    def log_prior_C(self):
        """log p(class)."""
        return jax.nn.log_softmax(self.prior_logits) if self.classifies else jnp.zeros(1)

    def along(self, op, score_BLK, *state, **flags):
        """A function of `seqjax.ops.chain` of the scores: (B, C, ...), without the axis C if it does not classify."""
        return self.over(op, *self.moves.log_p(*self.logits()), score_BLK, *state, **flags)

    @nn.nowrap
    def over(self, op, start_CK, transition_CKK, score_BLK, *state, **flags):
        """The same, of any weights of the moves."""
        if not self.classifies:
            return op(start_CK[0], transition_CKK[0], score_BLK, *state, **flags)
        score_BLCK = score_BLK.reshape(*score_BLK.shape[:2], self.classes, self.size)
        of_one = lambda *weights: op(*weights, *state, **flags)
        return jax.vmap(of_one, in_axes=(0, 0, 2), out_axes=1)(start_CK, transition_CKK, score_BLCK)

    def __call__(self, x, state=None, *, mask_BL=None, reset_BL=None, deterministic=True, **side):
        if state is not None:
            check_state("HMM", state, self.init_state, len(jax.tree.leaves(x)[0]))
        score_BLK, flags = self.scores(x, mask_BL, **side)[1], dict(mask_BL=mask_BL, reset_BL=reset_BL)
        if self.classifies:
            return self.along(chain.log_likelihood, score_BLK, **flags) + self.log_prior_C()[None], None
        if self.tags:
            return self.along(posterior, score_BLK, **flags), None
        filter_BLK, evidence_BL, after_BK = self.along(chain.filter, score_BLK, state, **flags)
        after_BK = None if state is None else after_BK
        if isinstance(self.answer, Density):
            return evidence_BL, after_BK
        _, transition_CKK = self.moves.log_p(*self.logits())
        prediction_BLV = mixed(mixed(filter_BLK, transition_CKK[0]), self.table_KV())
        return masks.fill(prediction_BLV, mask_BL), after_BK

    def table_KV(self):
        """log p(token | state)."""
        return self.emits(jnp.arange(self.inputs.vocabulary)[None])[0].T


Model = HMM
