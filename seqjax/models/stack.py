"""A stack of mixers between an embedding and a head."""

from collections.abc import Callable
from typing import Annotated

from flax import linen as nn

from seqjax.embed.features import Features
from seqjax.embed.tokens import Tokens
from seqjax.embed.words import Words
from seqjax.models._blocks import Backbone
from seqjax.types import Part


class Stack(Backbone, kw_only=True):
    """Embedding, a stack of blocks, and the head of the task: a language model, a classifier, a tagger, ...

        x = embed(fields),  x = block_i(x) for all layers,  prediction = head(norm(x))

    `embed` None: the embedding follows from the data. With `tie_embeddings` the head is the table of the embedding:
    logits = E norm(x). A stack whose head reads single tokens has the signature of a mixer and obeys the same laws;
    other heads read whole sequences, without a state. Predictions are float32, and zero where masked.
    """

    embed: Annotated[Callable | None, Part("seqjax.embed", "Embed")] = None
    tie_embeddings: bool = False

    embeds = True

    def __post_init__(self):
        super().__post_init__()
        embedding, head = self.make_embedding(parent=None), self.make_head(parent=None)
        if self.tie_embeddings and not (embedding.tieable and head.tieable):
            raise ValueError(
                "model.tie_embeddings needs an embedding and a head that can share one table, got "
                f"{type(embedding).__name__} and {type(head).__name__}: set model.tie_embeddings=False."
            )
        if self.tie_embeddings and self.inputs.vocabulary != head.outputs:
            raise ValueError(
                f"model.tie_embeddings needs as many outputs as input tokens, got {head.outputs} outputs and a "
                f"vocabulary of {self.inputs.vocabulary}: set model.tie_embeddings=False."
            )

    @nn.nowrap
    def make_embedding(self, **kwargs):
        """The embedding; unbound unless called in `setup`."""
        fields = self.inputs.fields
        make = self.embed or (Words if "characters" in fields else Tokens if "tokens" in fields else Features)
        return make(inputs=self.inputs, width=self.width, dtype=self.dtype, tied=self.tie_embeddings, **kwargs)

    @nn.nowrap
    def make_head(self, **kwargs):
        """The head; unbound unless called in `setup`."""
        return self.head(inputs=self.inputs, width=self.width, dtype=self.dtype, **kwargs)

    @nn.nowrap
    def check_steps(self) -> None:
        """Raises ValueError if the head needs whole sequences."""
        head = self.make_head(parent=None)
        if head.joint or not head.stepwise:
            raise ValueError(
                f"the head {type(head).__name__} reads whole sequences, so this model has no state and cannot run step "
                "by step: choose a task with a prediction per token."
            )

    @nn.nowrap
    def init_state(self, batch: int):
        self.check_steps()
        return super().init_state(batch)

    def setup(self):
        super().setup()
        self.embedding = self.make_embedding()
        if self.tie_embeddings:
            return
        outermost = self.make_head(parent=None).outermost
        self.readout = self.make_head(name=None if outermost else "head")
        if outermost:
            nn.share_scope(self, self.readout)

    def embeddings(self, x, mask_BL=None, deterministic=True):
        """Fields (B, L, ...) -> x_BLD and its mask."""
        return self.embedding(x, mask_BL, deterministic)

    def __call__(self, x, state=None, *, embedded=None, mask_BL=None, reset_BL=None, deterministic=True, **side):
        """As a model; `embedded`: a pair to use in place of the `embeddings` of these fields."""
        x_BLD, mask_BL = self.embeddings(x, mask_BL, deterministic) if embedded is None else embedded
        x_BLD, state = self.run(x_BLD, state, mask_BL, reset_BL, deterministic, side)
        if self.tie_embeddings:
            return self.embedding.attend(x_BLD, mask_BL), state
        return self.readout(x_BLD, mask_BL), state


Model = Stack
