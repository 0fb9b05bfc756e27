"""A sequence-to-sequence model."""

from collections.abc import Callable
from typing import Annotated

from flax import linen as nn

from seqjax import masks
from seqjax.embed.tokens import Tokens
from seqjax.mixers._base import Mixers, cycle, describe
from seqjax.mixers._memory import check_alone
from seqjax.mixers.bidirectional import Bidirectional
from seqjax.mixers.cross_attention import CrossAttention
from seqjax.models._blocks import Block, norm, through
from seqjax.models.stack import Stack
from seqjax.types import Layers, Part


class Seq2Seq(Stack, kw_only=True):
    """An encoder and a decoder: a stack that also reads a source sequence.

        memory = norm(block_i(E_s[source]))  for all layers of the encoder
        x = embed(fields),   per layer:  x + mixer(norm(x)),  x + cross(norm(x), memory),  x + MLP(norm(x))
        prediction = head(norm(x))

    `encoder` may see the whole source, `mixer` is causal; each is one factory, or a tuple of factories that the layers
    cycle through. `cross_attention` reads the memory; set it to None if `mixer` reads the memory itself (for example a
    recurrent network with attention). Given its source, this model has the signature and the laws of a stack, except
    that `prefill` makes the first state from the source.

    Sutskever et al. 2014, arXiv:1409.3215; with attention: Bahdanau et al. 2014, arXiv:1409.0473; with residual
    blocks: Vaswani et al. 2017, arXiv:1706.03762.
    """

    encoder: Mixers = Bidirectional
    encoder_layers: Layers = 2
    cross_attention: Annotated[Callable | None, Part("seqjax.mixers", "Mixer")] = CrossAttention

    @property
    def side(self) -> tuple[str, ...]:
        return ("source_BS", "source_mask_BS", *super().side)

    @nn.nowrap
    def check_reads(self, mixers) -> None:
        if self.inputs.source_vocabulary is None:
            raise ValueError(
                "this model reads a source, but the examples of this data have none: choose a model without an "
                "encoder, or other data."
            )
        check_alone([block.mixer for block in self.encoders(parent=None)], "an encoder")
        if self.cross_attention is not None and not mixers[1].memory:
            raise ValueError(
                f"{type(mixers[1]).__name__} in model.cross_attention does not read a memory: choose a mixer that "
                "does, such as 'cross_attention'."
            )
        own = mixers if self.cross_attention is None else mixers[::2]
        readers = [type(mixer).__name__ for mixer in own if mixer.memory]
        if (self.cross_attention is None) == (not readers):
            got = (
                f"both {readers[0]} in model.mixer and model.cross_attention read"
                if readers
                else "neither model.mixer nor model.cross_attention reads"
            )
            raise ValueError(
                f"{got} the memory, wanted one of them: set model.cross_attention to "
                f"{'None' if readers else 'cross_attention, or model.mixer to a mixer that reads a memory'}."
            )

    @nn.nowrap
    def stack(self, **kwargs) -> list[Block]:
        """The decoder: one block per layer, or two if `cross_attention` is set; the second one reads the memory."""
        if self.cross_attention is None:
            return super().stack(**kwargs)
        return [
            self.block(*args, **kwargs)
            for mixer in cycle(self.mixer, self.layers, "model.mixer")
            for args in ((mixer, 0.0), (self.cross_attention,))
        ]

    @nn.nowrap
    def encoders(self, **kwargs) -> list[Block]:
        """The encoder: one block per layer; unbound unless called in `setup`."""
        return [self.block(mixer, **kwargs) for mixer in cycle(self.encoder, self.encoder_layers, "model.encoder")]

    def setup(self):
        super().setup()
        self.source_embedding = Tokens(inputs=self.inputs, field="source", width=self.width, dtype=self.dtype)
        self.encoder_blocks = self.encoders()
        self.norm_memory = norm(self.norm, self.dtype)

    @nn.nowrap
    def init_state(self, batch: int):
        raise ValueError(
            "this model makes its first state from its source: call prefill(source_BS, mask_BS), or give source_BS."
        )

    @nn.nowrap
    def check_state(self, state, batch: int) -> None:
        blocks = len(self.stack(parent=None))
        if not isinstance(state, tuple) or len(state) != blocks:  # each block then checks its own state
            raise ValueError(
                f"the state is {describe(state)}, {type(self).__name__} wants a tuple of {blocks} states, one per "
                "block: make it with prefill(source_BS, mask_BS)."
            )

    def encode(self, source_BS, mask_BS=None, deterministic=True):
        """Encodes the source into the memory: source_BS -> memory_BSD."""
        masks.check(mask_BS, source_BS.shape[:2], "source_mask_BS")
        x_BSD, mask_BS = self.source_embedding(source_BS, mask_BS, deterministic)
        x_BSD = self.drop(x_BSD, deterministic=deterministic)
        flags = dict(mask_BL=mask_BS, deterministic=deterministic)
        x_BSD, _ = through(self.encoder_blocks, x_BSD, (None,) * self.encoder_layers, {}, **flags)
        return self.norm_memory(x_BSD)

    def prefill(self, source_BS, mask_BS=None):
        """The state before the first token: one per block; blocks that read the memory make theirs from the source."""
        self.check_steps()
        memory_BSD = self.encode(source_BS, mask_BS)
        return self._first(memory_BSD, mask_BS, lambda block: block.init_state(len(source_BS)))

    def _first(self, memory_BSD, mask_BS, otherwise):
        return tuple(b.prefill(memory_BSD, mask_BS) if b.mixer.memory else otherwise(b) for b in self.blocks)

    def __call__(
        self,
        x,
        state=None,
        *,
        source_BS=None,
        source_mask_BS=None,
        mask_BL=None,
        reset_BL=None,
        deterministic=True,
        **side,
    ):
        """x -> the prediction, as in a stack. Give either `state`, or a source to start from.

        Raises:
          ValueError: neither or both of them are given; a mask or the state has the wrong shape.
        """
        flags = dict(mask_BL=mask_BL, reset_BL=reset_BL, deterministic=deterministic, **side)
        if (state is None) == (source_BS is None):
            got = "neither source_BS nor a state" if state is None else "source_BS and a state"
            raise ValueError(f"got {got}, this model wants one of them: a state from prefill contains its source.")
        if state is not None:
            return super().__call__(x, state, **flags)
        memory_BSD = self.encode(source_BS, source_mask_BS, deterministic)
        state = self._first(memory_BSD, source_mask_BS, lambda block: None)  # faster: nothing has to be cached
        return super().__call__(x, state, **flags)[0], None


Model = Seq2Seq
