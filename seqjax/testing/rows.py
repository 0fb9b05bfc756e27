"""The rows on which the laws are tested: all ways in which documents and padding share a row.

Each row is a string, in which each letter is a token:

    x real    R real, a new document starts here    . masked    r masked, with a reset that must not count
"""

import numpy as np

LEGEND = "x real   R real, a new document starts here   . masked   r masked, with a reset that must not count"
PLAIN = ["xxxxxx"] * 5
PADDED = ["..xxxx", "xxx...", "x..x.x", ".x....", "......"]  # left, right, interior, ragged, empty
PACKED = ["xxxxxx", "xxRxRx", "RxxRxx", "xRRxxx", "xxxxxR"]
BOTH = ["xx..Rx", ".Rx.Rx", "xxrxRx", "..r...", "R.xRxR"]
LAYOUT = PLAIN + PADDED + PACKED + BOTH
LETTERS = np.array([list(row) for row in LAYOUT])
MASK, RESET = np.isin(LETTERS, ["x", "R"]), np.isin(LETTERS, ["R", "r"])
B, L = LETTERS.shape
ALL, EVERYWHERE = np.arange(B), np.ones((B, L), bool)
# All rows of a second sequence that hold something hold two tokens.
SECOND = np.isin(np.array([list(row) for row in np.resize([".xx.", "xx..", "x..x", "..xx", "...."], B)]), "x")
S = SECOND.shape[1]


def documents() -> list[list[tuple[int, int]]]:
    """The (row, place) of each token, document by document."""
    found = []
    for row, letters in enumerate(LAYOUT):
        found.append([])
        for place, letter in enumerate(letters):
            if letter == "R":
                found.append([])
            if letter in "xR":
                found[-1].append((row, place))
    return [document for document in found if document]
