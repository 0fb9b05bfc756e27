"""Edit distance."""

import numpy as np


def distance(one, other) -> int:
    """The least number of insertions, deletions and substitutions that turn one sequence into the other.

        d[i, j] = min(d[i-1, j] + 1, d[i, j-1] + 1, d[i-1, j-1] + (one[i] != other[j]))

    Levenshtein 1966, Soviet Physics Doklady 10(8).
    """
    other = np.asarray(other)
    place = np.arange(len(other) + 1)
    row = place
    for i, token in enumerate(one, start=1):
        # All but insertions at once; then a cheapest insertion is a running minimum of d - j.
        best = np.minimum(row[1:] + 1, row[:-1] + (other != token))
        row = np.minimum.accumulate(np.concatenate([[i], best]) - place) + place
    return int(row[-1])
