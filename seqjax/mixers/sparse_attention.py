"""Block-sparse multi-head attention."""

from seqjax import masks
from seqjax.mixers.attention import Attention
from seqjax.types import Count, Natural, Seed


class SparseAttention(Attention, kw_only=True):
    """Block-sparse attention: each token sees local, global and random blocks; their number does not grow with length.

        token t sees token s (s <= t if causal) where, with i = t // block_size and j = s // block_size,
        |i - j| <= local_blocks   or   min(i, j) < global_blocks   or   j drawn for i   or   i drawn for j

    Each block draws `random_blocks` earlier blocks, with replacement. The draw depends only on the number of the block
    and on `seed`: it is the same for all heads, rows and calls. Blocks that no token sees are not computed. All other
    options are those of `Attention`; the cache holds all `max_length` tokens.

    Zaheer et al. 2020, "Big Bird", arXiv:2007.14062.
    """

    block_size: Count = 64
    local_blocks: Natural = 1
    global_blocks: Natural = 1
    random_blocks: Natural = 2
    seed: Seed = 0

    @property
    def blocks(self):
        return masks.BlockPattern(self.block_size, self.local_blocks, self.global_blocks, self.random_blocks, self.seed)


Mixer = SparseAttention
