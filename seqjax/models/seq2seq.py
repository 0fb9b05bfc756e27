"""From one sequence to another."""

from collections.abc import Callable
from typing import Annotated

import jax.numpy as jnp
from flax import linen as nn

from seqjax import masks
from seqjax.mixers._base import Mixers, cycle, describe
from seqjax.mixers._layers import Embed
from seqjax.mixers._memory import check_alone
from seqjax.mixers.bidirectional import Bidirectional
from seqjax.mixers.cross_attention import CrossAttention
from seqjax.models._blocks import Block, norm, through
from seqjax.models.lm import LanguageModel
from seqjax.types import Layers, Part


class Seq2Seq(LanguageModel, kw_only=True):
    """Encoder and decoder: a language model that also reads a source.

        memory = norm(block_i(E_s[source]))  for all layers of the encoder
        x = E[token],   per layer:  x + mixer(norm(x)),  x + cross(norm(x), memory),  x + MLP(norm(x))
        logits = W norm(x)

    `encoder` may see all of the source, `mixer` is causal; both are a factory, or a tuple of them that the layers
    cycle through. `cross_attention` reads the memory; it is None where `mixer` does so itself (a recurrent network with
    attention, say). Injected its source, this is a language model: the same signature and laws, but for the first state,
    which `prefill` makes of the source.

    Sutskever et al. 2014, arXiv:1409.3215; with attention: Bahdanau et al. 2014, arXiv:1409.0473; in blocks: Vaswani
    et al. 2017, arXiv:1706.03762.
    """

    encoder: Mixers = Bidirectional
    encoder_layers: Layers = 2
    cross_attention: Annotated[Callable | None, Part("seqjax.mixers", "Mixer")] = CrossAttention

    called = "a seq2seq model"

    @nn.nowrap
    def check_reads(self, mixers) -> None:
        if self.inputs.source_vocabulary is None:
            raise ValueError("a seq2seq model reads a source, and this data has none: choose model.name='lm'.")
        check_alone([block.mixer for block in self.encoders(parent=None)], "an encoder")
        if self.cross_attention is not None and not mixers[1].memory:
            raise ValueError(
                "model.cross_attention does not read a memory: choose one that does, such as 'cross_attention'."
            )
        own = mixers if self.cross_attention is None else mixers[::2]
        readers = [type(mixer).__name__ for mixer in own if mixer.memory]
        if (self.cross_attention is None) == (not readers):
            got = (
                f"{readers[0]} of model.mixer and model.cross_attention"
                if readers
                else "neither model.mixer nor model.cross_attention"
            )
            raise ValueError(
                f"{got} read the memory, wanted one of them: set model.cross_attention to "
                f"{'None' if readers else 'cross_attention, or model.mixer to one that does'}."
            )

    @nn.nowrap
    def stack(self, **kwargs) -> list[Block]:
        """The decoder: one block per layer, or two, the second of which reads the memory."""
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
        init = nn.initializers.normal(1.0)
        vocabulary = self.inputs.source_vocabulary
        self.source_embedding = Embed(vocabulary, self.width, embedding_init=init, dtype=self.dtype)
        self.encoder_blocks = self.encoders()
        self.norm_memory = norm(self.norm, self.dtype)

    @nn.nowrap
    def init_state(self, batch: int):
        raise ValueError(
            "a seq2seq model reads a source, from which its first state is made: call prefill(source_BS, mask_BS), or "
            "give source_BS."
        )

    @nn.nowrap
    def check_state(self, state, batch: int) -> None:
        blocks = len(self.stack(parent=None))
        if not isinstance(state, tuple) or len(state) != blocks:  # each block looks at its own
            raise ValueError(
                f"the state is {describe(state)}, {type(self).__name__} wants one for each of {blocks} blocks: make it "
                "with prefill(source_BS, mask_BS)."
            )

    def encode(self, source_BS, mask_BS=None, deterministic=True):
        """The memory: source_BS -> memory_BSD."""
        if not jnp.issubdtype(source_BS.dtype, jnp.integer) or source_BS.ndim != 2:
            raise ValueError(
                f"source_BS is {source_BS.dtype}{list(source_BS.shape)}, {self.called} wants integers [B, S]."
            )
        masks.check(mask_BS, source_BS.shape, "source_mask_BS")
        x_BSD = self.drop(self.source_embedding(masks.fill(source_BS, mask_BS)), deterministic=deterministic)
        flags = dict(mask_BL=mask_BS, deterministic=deterministic)
        x_BSD, _ = through(self.encoder_blocks, x_BSD, (None,) * self.encoder_layers, **flags)
        return self.norm_memory(x_BSD)

    def prefill(self, source_BS, mask_BS=None):
        """The state before the first token: one for each block, of the source where it reads it."""
        memory_BSD = self.encode(source_BS, mask_BS)
        return self._first(memory_BSD, mask_BS, lambda block: block.init_state(len(source_BS)))

    def _first(self, memory_BSD, mask_BS, otherwise):
        return tuple(b.prefill(memory_BSD, mask_BS) if b.mixer.memory else otherwise(b) for b in self.blocks)

    def __call__(
        self,
        tokens_BL,
        state=None,
        *,
        source_BS=None,
        source_mask_BS=None,
        mask_BL=None,
        reset_BL=None,
        deterministic=True,
    ):
        """tokens_BL -> logits_BLV, as a language model. Either `state`, or a source, of which it starts fresh.

        Raises:
          ValueError: neither or both of them; a mask or state of another shape.
        """
        flags = dict(mask_BL=mask_BL, reset_BL=reset_BL, deterministic=deterministic)
        if (state is None) == (source_BS is None):
            got = "neither source_BS nor a state" if state is None else "source_BS and a state"
            raise ValueError(f"got {got}, {self.called} wants one of them: a state has read its source in prefill.")
        if state is not None:
            return super().__call__(tokens_BL, state, **flags)
        memory_BSD = self.encode(source_BS, source_mask_BS, deterministic)
        state = self._first(memory_BSD, source_mask_BS, lambda block: None)  # no caches to go on with: faster
        return super().__call__(tokens_BL, state, **flags)[0], None


Model = Seq2Seq
