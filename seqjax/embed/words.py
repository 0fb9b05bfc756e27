"""One vector per word, from the word and from its characters."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax import masks
from seqjax.embed._base import Embed
from seqjax.mixers import _layers
from seqjax.types import Count, Fraction


class Words(Embed, kw_only=True):
    """Words: a table of words, beside a convolution over the characters of each word.

        c_j = relu(W [e_{j-1}, e_j, e_{j+1}] + b),   x = V [E[word], max_j c_j] + v

    The fields are `tokens` (B, L) and `characters` (B, L, W), where id 0 is no character. `characters`: the width of a
    character's vector; `filters`: the number of features that the convolution finds. With the probability
    `word_dropout` a word is replaced by id 0, a rare word, so that the model learns to read the characters.

    Santos and Zadrozny 2014, "Learning character-level representations for part-of-speech tagging", ICML; Ma and Hovy
    2016, arXiv:1603.01354.
    """

    characters: Count = 32
    filters: Count = 128
    word_dropout: Fraction = 0.0

    def __post_init__(self):
        super().__post_init__()
        if missing := {"tokens", "characters"} - self.inputs.fields.keys():
            raise ValueError(
                f"the words embedding reads tokens and characters, this source has no {' and no '.join(missing)}: "
                "choose another model.embed, or other data."
            )

    def setup(self):
        table = lambda size, width: _layers.Embed(
            size, width, embedding_init=nn.initializers.normal(1.0), dtype=self.dtype
        )
        self.word = table(self.inputs.fields["tokens"].size, self.width)
        self.character = table(self.inputs.fields["characters"].size, self.characters)
        self.convolve = _layers.Dense(self.filters, dtype=self.dtype)
        self.project = _layers.Dense(self.width, dtype=self.dtype)

    def __call__(self, x, mask_BL=None, deterministic=True):
        tokens_BL, letters_BLW = masks.fill(x["tokens"], mask_BL), masks.fill(x["characters"], mask_BL)
        if self.word_dropout and not deterministic:
            drop_BL = jax.random.bernoulli(self.make_rng("dropout"), self.word_dropout, tokens_BL.shape)
            tokens_BL = jnp.where(drop_BL, 0, tokens_BL)
        B, L, W = letters_BLW.shape
        letters_NW = letters_BLW.reshape(B * L, W)
        real_NW = letters_NW > 0
        e_NWC = masks.fill(self.character(letters_NW), real_NW)
        around = jnp.pad(e_NWC, ((0, 0), (1, 1), (0, 0)))
        near_NWX = jnp.concatenate([around[:, :-2], e_NWC, around[:, 2:]], axis=-1)
        found_NWX = masks.fill(nn.relu(self.convolve(near_NWX)), real_NW)  # relu: 0 is the least
        found_BLX = jnp.max(found_NWX, axis=1).reshape(B, L, -1)
        return self.project(jnp.concatenate([self.word(tokens_BL), found_BLX], axis=-1)), mask_BL


Embed = Words
