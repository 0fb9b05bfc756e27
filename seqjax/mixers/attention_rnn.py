"""A recurrent decoder with attention."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax import masks
from seqjax.mixers._memory import MemoryMixer
from seqjax.mixers._recurrent import forget_open, orthogonal_blocks
from seqjax.ops import cells, scan, scores
from seqjax.ops.decoder import Decode, Reader
from seqjax.types import Count

GATES = {"gru": 3, "lstm": 4}


class Decoding(NamedTuple):
    """The state of a decoder, float32, and the memory that it reads.

    `cell` is (h,), or (h, c) for an LSTM. `feed_BD` is a_{t-1}; None if it is not fed. `k_BSD` holds the keys; None
    if they equal the values. `place_BS` is -1 where the memory is masked. `count_B` is the number of tokens so far.
    """

    cell: tuple[jax.Array, ...]
    feed_BD: jax.Array | None
    k_BSD: jax.Array | None
    v_BSD: jax.Array
    place_BS: jax.Array
    count_B: jax.Array


class AttentionRNN(MemoryMixer):
    """A GRU or LSTM that reads a mean of the memory m_1 ... m_S at every token, with weights that depend on its state.

        bahdanau:   c_t = read(s_{t-1}),   s_t = cell([x_t, c_t], s_{t-1}),   y_t = W [s_t, c_t]
        luong:      s_t = cell([x_t, a_{t-1}], s_{t-1}),   c_t = read(s_t),   y_t = a_t = tanh(W [s_t, c_t])
        read(s) = sum_i w_i m_i,   w = weights(score(s, m_1), ..., score(s, m_S))

    `style`: "bahdanau" attends with the state before a token, "luong" with the state after it.
    `cell`: "gru" (reset gate after the product) or "lstm" (forget bias 1 at the start), as in the mixers `gru`, `lstm`.
    `score`: "dot": s . m; "scaled_dot": s . m / sqrt(D); "general": s . W m; "additive": v . tanh(W s + U m); "cosine":
      g cos(s, m), where g is learned and starts at 10; "location": row i of W s, which does not depend on m_i, for
      `max_source_length` positions (later positions use the last row). See `seqjax.ops.scores`.
    `weights`: see `seqjax.ops.weights`; those of "sigmoid" do not sum to one.
    `alignment`: "global": all of the memory. "local_m": for token t of its document, positions at most `radius` away
      from position t; if the memory ends before them, the token reads zeros. "local_p": positions at most `radius` away
      from p = S sigmoid(v . tanh(W s)), with weights times exp(-(i - p)^2 / (2 (radius / 2)^2)); S is the length of
      this memory. Positions count from 0 and count real tokens only.
    `input_feeding`: luong: whether a_{t-1} is fed to the cell (zeros at first). Without it, attention is not part of
      the recurrence and is computed for all tokens at once.

    State: `Decoding`. Collected as intermediates: "weights" (B, 1, L, S), float32, zero where masked.

    Bahdanau et al. 2014, arXiv:1409.0473; Luong et al. 2015, arXiv:1508.04025.

    Raises:
      ValueError: radius, max_source_length or input_feeding is given but not used by the other options, or missing.
    """

    style: Literal["bahdanau", "luong"] = "bahdanau"
    cell: Literal["gru", "lstm"] = "gru"
    score: Literal["dot", "scaled_dot", "general", "additive", "cosine", "location"] = "additive"
    weights: Literal["softmax", "sigmoid", "sparsemax", "entmax"] = "softmax"
    alignment: Literal["global", "local_m", "local_p"] = "global"
    radius: Count | None = None
    max_source_length: Count | None = None
    input_feeding: bool = True

    State = Decoding

    def __post_init__(self):
        super().__post_init__()
        if (self.radius is None) != (self.alignment == "global"):
            raise ValueError(
                f"mixer.radius={self.radius} with mixer.alignment={self.alignment!r}: set a radius for local "
                "alignment, and None for 'global'."
            )
        if (self.max_source_length is None) != (self.score != "location"):
            raise ValueError(
                f"mixer.max_source_length={self.max_source_length} with mixer.score={self.score!r}: set a length for "
                "'location', and None for the other scores."
            )
        if self.style == "bahdanau" and not self.input_feeding:
            raise ValueError(
                "mixer.input_feeding=False with mixer.style='bahdanau', which always feeds the cell: set "
                "mixer.style='luong'."
            )

    def setup(self):
        D, G = self.width, GATES[self.cell]
        lecun, zeros = nn.initializers.lecun_normal(), nn.initializers.zeros
        self.kernel = self.param("kernel", lecun, (D, G * D))
        self.recurrent = self.param("recurrent", orthogonal_blocks(G), (D, G * D))
        open_up = lambda key, shape, dtype=jnp.float32: forget_open(1.0, shape, dtype)
        self.bias = self.param("bias", open_up if self.cell == "lstm" else zeros, (G * D,))
        if self.cell == "gru":
            self.bias_n = self.param("bias_n", zeros, (D,))
        if self.input_feeding:
            self.feed = self.param("feed", lecun, (D, G * D))
        self.out = self.param("out", lecun, (2 * D, D))
        if self.score in ("general", "additive"):
            self.key = self.param("key", lecun, (D, D))
        if self.score == "additive":
            self.query = self.param("query", lecun, (D, D))
            self.v = self.param("v", nn.initializers.normal(D**-0.5), (D,))
        if self.score == "cosine":
            self.sharpness = self.param("sharpness", nn.initializers.constant(10.0), ())
        if self.score == "location":
            self.table = self.param("places", lecun, (D, self.max_source_length))
        if self.alignment == "local_p":
            self.predict = self.param("predict", lecun, (D, D))
            self.centre = self.param("centre", nn.initializers.normal(D**-0.5), (D,))

    @property
    def _fed(self) -> bool:
        """Whether a_{t-1} is part of the state."""
        return self.style == "luong" and self.input_feeding

    def prefill(self, memory_BSD, mask_BS=None):
        self.check_memory(memory_BSD, mask_BS)
        B, S, D = memory_BSD.shape
        v_BSD = masks.fill(memory_BSD, mask_BS).astype(self.dtype)
        place_BS = masks.positions((B, S), mask_BS)
        zeros_BD, k_BSD = jnp.zeros((B, D), jnp.float32), None
        if self.score == "general":
            k_BSD = scores.general(v_BSD[:, :, None], self.key[None])[:, :, 0]
        elif self.score == "additive":
            k_BSD = scan.product(v_BSD, self.key, self.dtype).astype(self.dtype)
        elif self.score == "cosine":
            k_BSD = scores.unit(v_BSD)
        return Decoding(
            cell=(zeros_BD,) * (2 if self.cell == "lstm" else 1),
            feed_BD=zeros_BD if self._fed else None,
            k_BSD=k_BSD,
            v_BSD=v_BSD,
            place_BS=place_BS if mask_BS is None else jnp.where(mask_BS, place_BS, -1),
            count_B=jnp.zeros((B,), jnp.int32),
        )

    def __call__(self, x_BLD, state=None, *, mask_BL=None, reset_BL=None, deterministic=True):
        self.check(x_BLD, state, mask_BL, reset_BL)
        position_BL = masks.positions(x_BLD.shape[:2], mask_BL, reset_BL, state.count_B)
        reader = Reader(self.score, self.alignment, self.radius, self.weights, self.dtype)
        u_BLX = {"position": position_BL.astype(jnp.float32)} if self.alignment == "local_m" else {}
        x_cast_BLD = masks.fill(x_BLD, mask_BL).astype(self.dtype)
        flags = dict(mask_BL=mask_BL, reset_BL=reset_BL)
        by = self._in_loop if self.input_feeding else self._after_loop
        y_BLD, weight_BLS, cell, feed_BD = by(reader, x_cast_BLD, u_BLX, state, flags)
        if weight_BLS is not None:
            self.sow("intermediates", "weights", masks.fill(weight_BLS, mask_BL)[:, None])
        after = state._replace(cell=cell, feed_BD=feed_BD, count_B=position_BL[:, -1] + 1)
        return masks.fill(y_BLD, mask_BL).astype(x_BLD.dtype), after

    def _in_loop(self, reader, x_BLD, u_BLX, state, flags):
        """Cell and attention, token by token: -> y, weights if intermediates are collected, new cell and feed_BD."""
        B, _, D = x_BLD.shape
        look = self.is_mutable_collection("intermediates")
        step = Decode(getattr(cells, self.cell), reader, self.style, look)
        u_BLX["x"] = scan.product(x_BLD, self.kernel, self.dtype) + self.bias[None, None]
        weights = {"recurrent": self.recurrent, "feed": self.feed} | self._products()
        rows = self._rows(state)
        if self.cell == "gru":
            rows["bias_n"] = jnp.broadcast_to(self.bias_n[None], (B, D))
        if self._fed:
            weights["out"], feed_BD = self.out, state.feed_BD
        else:
            feed_BD = jnp.zeros((B, 2 * D), jnp.float32)
        seen_BS = [jnp.zeros(state.place_BS.shape, jnp.float32)] if look else []
        before = (jnp.concatenate([feed_BD, *seen_BS], axis=-1), *state.cell)
        initial = jax.tree.map(jnp.zeros_like, before)
        out_BLX, (last_BX, *cell) = scan.recur(step, u_BLX, weights, rows, before, initial, **flags, dtype=self.dtype)
        y_BLD, weight_BLS = jnp.split(out_BLX, [feed_BD.shape[1]], axis=-1)
        if not self._fed:
            y_BLD = scan.product(y_BLD, self.out, self.dtype)
        return y_BLD, weight_BLS if look else None, tuple(cell), last_BX[:, :D] if self._fed else None

    def _after_loop(self, reader, x_BLD, u_BLX, state, flags):
        """The cell by its fast op, then attention for all tokens at once: same arguments and results as `_in_loop`."""
        initial = jax.tree.map(jnp.zeros_like, state.cell)
        if self.cell == "gru":
            weights = (self.kernel, self.recurrent, self.bias, self.bias_n)
            s_BLD, h_BD = scan.gru(x_BLD, *weights, *state.cell, *initial, **flags)
            cell = (h_BD,)
        else:
            s_BLD, cell = scan.lstm(x_BLD, self.kernel, self.recurrent, self.bias, state.cell, initial, **flags)
        weights = self._products()
        dot = lambda name, a_BLX: scan.product(a_BLX, weights[name], self.dtype)
        c_BLD, weight_BLS = reader(s_BLD, self._rows(state), u_BLX.get("position"), dot)
        y_BLD = jnp.tanh(scan.product(jnp.concatenate([s_BLD, c_BLD], axis=-1), self.out, self.dtype))
        return y_BLD, weight_BLS if self.is_mutable_collection("intermediates") else None, tuple(cell), None

    def _products(self) -> dict:
        """The weights that a `Reader` multiplies by."""
        found = {"query": self.query} if self.score == "additive" else {}
        found |= {"places": self.table} if self.score == "location" else {}
        return found | ({"predict": self.predict} if self.alignment == "local_p" else {})

    def _rows(self, state) -> dict:
        """The other arrays of a `Reader`. Parameters are copied per row, so gradients are summed after the loop."""
        row = lambda parameter: jnp.broadcast_to(parameter[None], (len(state.count_B), *parameter.shape))
        found = {"value": state.v_BSD.astype(jnp.float32), "place": state.place_BS.astype(jnp.float32)}
        if state.k_BSD is not None:
            found["key"] = state.k_BSD.astype(jnp.float32)
        if self.score == "additive":
            found["v"] = row(self.v)
        if self.score == "cosine":
            found["sharpness"] = row(self.sharpness)
        if self.alignment == "local_p":
            found |= {"centre": row(self.centre), "length": jnp.max(found["place"], axis=1, initial=-1.0) + 1}
        return found


Mixer = AttentionRNN
