"""Hard states: equal segments of sequences to start from, how often one follows another, and how long one lasts."""

import numpy as np


def equal(mask_BL, reset_BL, states: int):
    """Cuts each document into `states` segments of equal length: (B, L), -1 where masked.

    Raises:
      ValueError: a document is too short.
    """
    state_BL = np.full(mask_BL.shape, -1)
    for b, t in documents(mask_BL, reset_BL):
        if len(t) < states:
            raise ValueError(
                f"a sequence has {len(t)} frame{'s' * (len(t) > 1)}, too few to be cut into a segment for each of "
                f"{states} states: lower model.states, leave out short sequences, or set model.initial='random'."
            )
        state_BL[b, t] = np.arange(len(t)) * states // len(t)
    return state_BL


def documents(mask_BL, reset_BL):
    """Each document as its row and the places of its real tokens."""
    for b, mask_L in enumerate(mask_BL):
        t = np.flatnonzero(mask_L)
        starts = [] if reset_BL is None else np.flatnonzero(reset_BL[b, t])
        yield from ((b, part) for part in np.split(t, starts) if len(part))


def visits(path_BL, mask_BL, reset_BL):
    """Each visit of a state: the row, the state, and how many tokens it lasts."""
    for b, t in documents(mask_BL, reset_BL):
        path = path_BL[b, t]
        ends = np.append(np.flatnonzero(np.diff(path)), len(path) - 1)
        yield from ((b, int(path[end]), int(n)) for end, n in zip(ends, np.diff(ends, prepend=-1), strict=True))


def moves(state_BL, mask_BL, reset_BL, states: int):
    """How often each state comes first (K,), and each one after another (K, K)."""
    first_K, next_KK = np.zeros(states), np.zeros((states, states))
    for b, t in documents(mask_BL, reset_BL):
        path = state_BL[b, t]
        if path[0] >= 0:
            first_K[path[0]] += 1
        known = (path[:-1] >= 0) & (path[1:] >= 0)
        np.add.at(next_KK, (path[:-1][known], path[1:][known]), 1)
    return first_K, next_KK
