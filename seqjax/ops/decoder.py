"""A recurrent cell that reads a memory at every token, for `scan.recur`. Its state decides which parts it reads.

`rows` holds the memory: "value" (B, S, D), "key" (B, S, D) if keys differ from values, and "place" (B, S), the
positions of real tokens, -1 for others. They are float32, because their gradients are summed token by token. `rows`
also holds parameters, copied once per row: "v", "sharpness" and "centre"; "length" is the number of real tokens.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from seqjax.ops import scores, weights
from seqjax.ops._product import product


@dataclasses.dataclass(frozen=True)
class Reader:
    """Reads a memory with a state s: c = sum_i w_i m_i. The options and equations are those of `AttentionRNN`.

    `dot(name, a)` multiplies by the weights "query", "places" or "predict", if the options need them.
    """

    score: str
    view: str
    radius: int | None
    weights: str
    dtype: str

    def __call__(self, s_BLD, rows: dict, position_BL, dot):
        """The context of each state, (B, L, D), and its weights, (B, L, S); float32. Only "local_m" uses positions."""
        place_B1S = rows["place"][:, None]
        score_BLS = self._score(s_BLD, rows, dot)
        allowed_BLS = jnp.broadcast_to(place_B1S >= 0, score_BLS.shape)
        if self.view != "global":
            centre_BL = position_BL if self.view == "local_m" else self._predicted(s_BLD, rows, dot)
            away_BLS = place_B1S - centre_BL[:, :, None]
            allowed_BLS &= jnp.abs(away_BLS) <= self.radius
        weight_BLS = getattr(weights, self.weights)(score_BLS, allowed_BLS)
        if self.view == "local_p":
            weight_BLS = weight_BLS * jnp.exp(-0.5 * (away_BLS / (self.radius / 2)) ** 2)
        return product("BLS,BSD->BLD", weight_BLS, rows["value"], self.dtype), weight_BLS

    def _score(self, s_BLD, rows, dot):
        if self.score == "location":
            score_BLHP = dot("places", s_BLD)[:, :, None]
            return scores.location(score_BLHP, rows["place"].astype(jnp.int32))[:, 0]
        key_BSD = rows.get("key", rows["value"])
        if self.score == "additive":
            # `scores.additive` does not fit here, because v has one copy per row.
            hidden_BLSD = jnp.tanh(dot("query", s_BLD)[:, :, None] + key_BSD[:, None])
            return jnp.einsum("BLSD,BD->BLS", hidden_BLSD, rows["v"])
        if self.score == "cosine":
            s_BLD = scores.unit(s_BLD)
        score_BLS = product("BLD,BSD->BLS", s_BLD, key_BSD, self.dtype)
        if self.score == "cosine":
            return score_BLS * rows["sharpness"][:, None, None]
        return score_BLS * s_BLD.shape[-1] ** -0.5 if self.score == "scaled_dot" else score_BLS

    def _predicted(self, s_BLD, rows, dot):
        """p = S sigmoid(v . tanh(W s)), S the number of real tokens: (B, L)."""
        hidden_BLD = jnp.tanh(dot("predict", s_BLD))
        return rows["length"][:, None] * jax.nn.sigmoid(jnp.sum(hidden_BLD * rows["centre"][:, None], axis=-1))


@dataclasses.dataclass(frozen=True)
class Decode:
    """A step of `scan.recur`: a cell that is also fed c of this token ("bahdanau") or a of the last token ("luong").

    The first entry of its state is the output of a token: s and c ("bahdanau") or a ("luong"), followed by the weights
    of the memory if `look`. The other entries are the state of the cell.
    """

    cell: Callable
    reader: Reader
    style: str
    look: bool = False

    def __call__(self, u, state, dot, rows):
        out_BX, *before = state
        position_B1 = u["position"][:, None] if "position" in u else None
        read = lambda s_BD: (a[:, 0] for a in self.reader(s_BD[:, None], rows, position_B1, dot))
        if self.style == "bahdanau":
            c_BD, weight_BS = read(before[0])
            after = self.cell(u | {"x": u["x"] + dot("feed", c_BD)}, tuple(before), dot, rows)
            out_BX = jnp.concatenate([after[0], c_BD], axis=-1)
        else:
            feed_BD = out_BX[:, : before[0].shape[1]]
            after = self.cell(u | {"x": u["x"] + dot("feed", feed_BD)}, tuple(before), dot, rows)
            c_BD, weight_BS = read(after[0])
            out_BX = jnp.tanh(dot("out", jnp.concatenate([after[0], c_BD], axis=-1)))
        if self.look:
            out_BX = jnp.concatenate([out_BX, weight_BS], axis=-1)
        return out_BX, *after
