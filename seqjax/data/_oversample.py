"""Which examples an epoch shows if all classes shall be equally frequent."""

import numpy as np

from seqjax.data._source import Source
from seqjax.types import ConfigError


def oversampled(source: Source, split: str, seed: int) -> np.ndarray:
    """Indices of examples: each class as often as the most frequent one, each of its examples as often as another.

        classes of the examples 0 0 0 1 1   ->   indices 0 1 2 3 4 4    or 0 1 2 3 4 3, by the seed

    It is a pure function of the source and the seed, so a batch stays one of (seed, step).

    Raises:
      ConfigError: the examples have no label.
    """
    if source.spec.classes is None:
        raise ConfigError(
            "loader.oversample needs one label per example, this source has none: remove it, or choose other data."
        )
    labels_N = np.array([source.example(split, i)["label"] for i in range(source.size(split))])
    most = np.bincount(labels_N).max()
    # Raw bits of Philox are the same in every version of numpy.
    order_N = np.argsort(np.random.Philox(key=[seed, len(labels_N)]).random_raw(len(labels_N)), kind="stable")
    members = [order_N[labels_N[order_N] == label] for label in np.unique(labels_N)]
    return np.sort(np.concatenate([np.resize(member, most) for member in members]))
