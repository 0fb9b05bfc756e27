"""A classifier of pairs of texts."""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax import masks
from seqjax.mixers._base import factories
from seqjax.mixers._layers import Dense
from seqjax.mixers._memory import check_alone
from seqjax.models._blocks import Block, norm, through
from seqjax.models.stack import Stack
from seqjax.types import Part, Range


class Text(NamedTuple):
    """One of the two texts, encoded."""

    x_BLD: jax.Array
    mask_BL: jax.Array | None
    reset_BL: jax.Array | None


class Pair(Stack, kw_only=True):
    """Two texts, read by one encoder and compared: does the one follow from the other, do both mean the same?

        x = encode(text),  s = encode(source)        embedding, block_i for all layers, norm: the same for both
        x, s = read(x, memory s), read(s, memory x)  if `interaction`: a block whose mixer reads a memory
        x, s = compose(x), compose(s)                block_i for all `composition_layers`, norm: the same for both
        u = pool(x),  v = pool(s)                    the head of the task pools
        prediction = W gelu(W_c [u, v, |u - v|, u * v] + b_c) + b

    Without `interaction`, it is a siamese network. With "interactive" between a bidirectional LSTM and one more layer,
    it is ESIM; with a `mixer` that reads single tokens (cnn, kernel_sizes=[1]), it is decomposable attention. Each
    block has a residual connection and an MLP, other than in the papers.

    Siamese: Bowman et al. 2015, arXiv:1508.05326; Conneau et al. 2017, arXiv:1705.02364. Decomposable attention:
    Parikh et al. 2016, arXiv:1606.01933. ESIM: Chen et al. 2016, arXiv:1609.06038.

    Raises:
      ValueError: the data have no source, or one with another vocabulary; `interaction` reads no memory; the head does
        not pool.
    """

    interaction: Annotated[Callable | None, Part("seqjax.mixers", "Mixer")] = None
    composition_layers: Annotated[int, Range(least=0, most=1024)] = 0

    embeds = False

    def __post_init__(self):
        super().__post_init__()
        if not (head := self.make_head(parent=None)).pools:
            raise ValueError(
                f"this model compares one vector per text, which {type(head).__name__} does not make: choose a task "
                "with one prediction per example, and task.head.name='pooled'."
            )

    @nn.nowrap
    def check_reads(self, mixers) -> None:
        if self.inputs.source_vocabulary is None:
            raise ValueError(
                "this model reads two texts, but the examples of this data have no source: name its column in "
                "data.source, or choose model.name='stack'."
            )
        if self.inputs.source_vocabulary != self.inputs.vocabulary:
            raise ValueError(
                f"this model reads both texts with one embedding, but they have {self.inputs.vocabulary} and "
                f"{self.inputs.source_vocabulary} ids: choose data with one vocabulary, or model.name='seq2seq'."
            )
        check_alone(mixers, "an encoder")
        if self.interaction is not None and not (reader := self.make_reader(parent=None).mixer).memory:
            raise ValueError(
                f"{type(reader).__name__} in model.interaction does not read a memory: choose a mixer that does, such "
                "as 'interactive' or 'cross_attention'."
            )

    @property
    def side(self) -> tuple[str, ...]:
        return ("source_BS", "source_mask_BS")

    @property
    def whole(self) -> list[str]:
        return [type(self).__name__]

    @nn.nowrap
    def make_reader(self, **kwargs) -> Block:
        """The block in which a text reads the other; unbound unless called in `setup`."""
        return self.block(self.interaction, **kwargs)

    def setup(self):
        super().setup()
        if self.interaction is not None:
            self.reader = self.make_reader()
        mixers = factories(self.mixer, "model.mixer")
        self.composition_blocks = [self.block(mixers[i % len(mixers)]) for i in range(self.composition_layers)]
        if self.interaction is not None or self.composition_layers:
            self.norm_composed = norm(self.norm, self.dtype)
        self.compare = Dense(self.width, dtype=self.dtype)

    def __call__(
        self, x, state=None, *, source_BS, source_mask_BS=None, mask_BL=None, reset_BL=None, deterministic=True
    ):
        """As a model; a reset starts a new document in the text, but both documents read the same source.

        Raises:
          ValueError: a state is given, as this model reads whole sequences; a mask has the wrong shape.
        """
        if state is not None:
            self.init_state(len(source_BS))  # raises
        masks.check(source_mask_BS, source_BS.shape[:2], "source_mask_BS")
        text = self._encode(x, mask_BL, reset_BL, deterministic)
        source = self._encode(source_BS, source_mask_BS, None, deterministic)
        if self.interaction is not None:
            # The pair on the right is the one before both have read each other.
            text, source = self._read(text, source, deterministic), self._read(source, text, deterministic)
        if self.interaction is not None or self.composition_layers:
            text, source = self._compose(text, deterministic), self._compose(source, deterministic)
        u_BD, v_BD = (self.readout.pooled(one.x_BLD, one.mask_BL) for one in (text, source))
        both_BX = jnp.concatenate([u_BD, v_BD, jnp.abs(u_BD - v_BD), u_BD * v_BD], axis=-1)
        hidden_BD = self.drop(jax.nn.gelu(self.compare(both_BX)), deterministic=deterministic)
        return self.readout.logits(hidden_BD), None

    def _encode(self, ids, mask_BL, reset_BL, deterministic) -> Text:
        x_BLD, mask_BL = self.embeddings(ids, mask_BL, deterministic)
        return Text(self.run(x_BLD, None, mask_BL, reset_BL, deterministic, {})[0], mask_BL, reset_BL)

    def _read(self, text: Text, other: Text, deterministic) -> Text:
        """The text after it has read the other one."""
        state = self.reader.prefill(other.x_BLD, other.mask_BL)
        flags = dict(mask_BL=text.mask_BL, reset_BL=text.reset_BL, deterministic=deterministic)
        return text._replace(x_BLD=self.reader(text.x_BLD, state, **flags)[0])

    def _compose(self, text: Text, deterministic) -> Text:
        states = (None,) * self.composition_layers
        flags = dict(mask_BL=text.mask_BL, reset_BL=text.reset_BL, deterministic=deterministic)
        x_BLD, _ = through(self.composition_blocks, text.x_BLD, states, {}, **flags)
        return text._replace(x_BLD=self.norm_composed(x_BLD))


Model = Pair
