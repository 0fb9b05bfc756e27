"""All tokens of the training split at once, for what counts them before training."""

import numpy as np

from seqjax.data._source import Source
from seqjax.types import DataError


def documents(source: Source) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The tokens of the train split, one document after the other, where documents begin (bool), and classes: all (M,).

    They are those of the stream in reading order, or, if there is none, of all examples. A token has the class of its
    example, if examples have one (`label`); else classes are None.

    Raises:
      DataError: the split is endless, or has no tokens.
    """
    if (whole := source.stream("train")) is not None:
        found = [whole]
    elif (size := source.size("train")) is not None:
        found = [source.example("train", index) for index in range(size)]
    else:
        raise DataError(
            "n-grams are counted over the whole train split, which is endless here: choose data with a train split of "
            "fixed size, or a running text."
        )
    starts = []
    for one in found:
        start_L = np.array(one.get("reset", np.zeros(len(one["tokens"]), bool)))
        start_L[:1] = True
        starts.append(start_L)
    tokens_M = np.concatenate([np.empty(0, np.int32), *(one["tokens"] for one in found)])
    if not len(tokens_M):
        raise DataError("the train split has no tokens to count: give more data.")
    if "label" not in source.spec.fields:
        return tokens_M, np.concatenate(starts), None
    labels = [np.full(len(one["tokens"]), one["label"], np.int32) for one in found]
    return tokens_M, np.concatenate(starts), np.concatenate(labels)
