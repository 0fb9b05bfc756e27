"""Which states of a hidden Markov model may follow each other, and their probabilities."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.emissions._base import TINY

KINDS = ("ergodic", "left_right", "linear")


@dataclasses.dataclass(frozen=True)
class Topology:
    """The moves that are allowed among K states, for each of C models.

    Row 0 of `allowed` (K + 1, K) says where a sequence may start, row k + 1 where state k may go. A row with one move
    is certain; the logits of all other allowed moves are free. So what is forbidden is no parameter.

    Raises:
      ValueError: `kind` is unknown, or has no K rows or K + 1 rows of K, or leaves a row without a move.
    """

    kind: str | tuple
    states: int
    classes: int = 1

    def __post_init__(self):
        allowed = self.allowed
        if not allowed.any(axis=1).all():
            row = int(np.flatnonzero(~allowed.any(axis=1))[0])
            what = "no state is allowed to start" if row == 0 else f"state {row - 1} may go nowhere"
            raise ValueError(f"model.topology: {what}: allow at least one, at best the state itself.")

    @functools.cached_property
    def allowed(self) -> np.ndarray:
        """bool (K + 1, K): the start, then the moves from each state."""
        K, to = self.states, np.arange(self.states)
        step = to[None] - to[:, None]
        if isinstance(self.kind, str) and self.kind not in KINDS:
            raise ValueError(f"model.topology={self.kind!r}: choose one of {', '.join(KINDS)}, or rows of 0 and 1.")
        if self.kind == "ergodic":
            return np.ones((K + 1, K), bool)
        if self.kind in KINDS:
            moves = (step >= 0) & ((step <= 1) | (self.kind == "left_right"))
            return np.concatenate([to[None] == 0, moves])
        rows = [len(row) if isinstance(row, (list, tuple)) else 0 for row in self.kind]
        if len(rows) not in (K, K + 1) or set(rows) != {K} or not {x for row in self.kind for x in row} <= {0, 1}:
            raise ValueError(
                f"model.topology has {len(rows)} rows of {sorted(set(rows))} entries: for {K} states give {K} rows of "
                f"{K} entries that are 0 or 1 (may state i go to state j), or one more row before them for the start."
            )
        moves = np.array(self.kind, bool)
        return moves if len(moves) == K + 1 else np.concatenate([np.ones((1, K), bool), moves])

    @functools.cached_property
    def _free(self):
        """(row, state) of the moves that have a logit; those of the start come first."""
        return np.nonzero(self.allowed & (self.allowed.sum(axis=1, keepdims=True) > 1))

    @property
    def logits(self) -> tuple[int, int]:
        """The number of logits of the start and of the transitions of one model."""
        start = int((self._free[0] == 0).sum())
        return start, len(self._free[0]) - start

    @property
    def free_parameters(self) -> int:
        """The number of free parameters of all models: one less than the allowed moves in each row."""
        return self.classes * int((self.allowed.sum(axis=1) - 1).sum())

    def free(self, table_CRK):
        """The logits (C, X) of the start and of the transitions in a table of both, which `log_p` reads."""
        # Where all moves are free: XLA takes seconds to compile a gather or a scatter of a million places.
        all_free = len(self._free[0]) == self.allowed.size
        free_CX = table_CRK.reshape(self.classes, -1) if all_free else table_CRK[:, *self._free]
        return jnp.split(free_CX, [self.logits[0]], axis=1)

    def log_p(self, start_CX, transition_CX):
        """Logits -> log p of the first state (C, K), and of the next one given the last (C, K, K); -inf: forbidden."""
        logits_CX = jnp.concatenate([start_CX, transition_CX], axis=1)
        if logits_CX.shape[1] == self.allowed.size:
            full_CRK = logits_CX.reshape(self.classes, *self.allowed.shape)
        else:
            full_CRK = jnp.zeros((self.classes, *self.allowed.shape)).at[:, *self._free].set(logits_CX)
        full_CRK = jnp.where(self.allowed, full_CRK, -jnp.inf)
        full_CRK = jnp.where(self.allowed, full_CRK - jax.nn.logsumexp(full_CRK, axis=-1, keepdims=True), -jnp.inf)
        return full_CRK[:, 0], full_CRK[:, 1:]

    def solve(self, start_CK, transition_CKK, concentrations: tuple[float, float], old: tuple):
        """The mode of a Dirichlet distribution, p ~ count + concentration - 1, over the allowed moves of each row.

        Args:
          start_CK, transition_CKK: expected counts.
          concentrations: of the prior of the start, and of each row of the transitions.
          old: logits (start, transition); a row that counts nothing keeps its own.
        """
        counts = jnp.concatenate([start_CK[:, None], transition_CKK], axis=1)
        more_R1 = np.repeat(np.float32(concentrations) - 1, [1, self.states])[:, None]
        seen_CR1 = jnp.sum(jnp.where(self.allowed, counts, 0), axis=-1, keepdims=True) > 0
        share_CRK = jnp.where(self.allowed, counts + more_R1[None], 0)
        share_CRK = share_CRK / jnp.where(seen_CR1, jnp.sum(share_CRK, axis=-1, keepdims=True), 1)
        old_CRK = jnp.concatenate([a[:, None] if a.ndim == 2 else a for a in self.log_p(*old)], axis=1)
        log_CRK = jnp.where(seen_CR1, jnp.log(jnp.maximum(share_CRK, TINY)), old_CRK)
        return self.free(log_CRK)

    def log_prior(self, concentrations: tuple[float, float], logits: tuple):
        """The log of the Dirichlet prior, up to a constant."""
        found = zip(concentrations, self.log_p(*logits), strict=True)
        return sum((c - 1) * jnp.sum(jnp.where(log == -jnp.inf, 0, log)) for c, log in found)
