"""Clusters of vectors, from which mixtures and hidden states begin; in numpy, on the host."""

import jax
import numpy as np

ROUNDS = 100
CHUNK = 2**22  # numbers in a table of distances


def kmeans(x_NF, K: int, key, n_init: int = 1, observed_NF=None) -> np.ndarray:
    """K clusters by k-means from the k-means++ start: (N, F) -> the cluster of each vector (N,), int.

    Features are divided by their standard deviations first. Of `n_init` starts the one with the smallest sum of squared
    distances is kept. A cluster that gets empty takes the vector that is farthest from its centre. What is missing
    stands at the mean of its feature.

    Arthur and Vassilvitskii 2007, "k-means++: the advantages of careful seeding", SODA.

    Raises:
      ValueError: there are fewer than K different vectors.
    """
    x_NF = np.asarray(x_NF, np.float64)
    if observed_NF is not None:
        mean_F = np.sum(x_NF, axis=0, where=observed_NF) / np.maximum(np.sum(observed_NF, axis=0), 1)
        x_NF = np.where(observed_NF, x_NF, mean_F)
    if (different := len(np.unique(x_NF, axis=0))) < K:
        raise ValueError(
            f"{K} clusters need as many different vectors, got {different}: choose fewer components or states, or give "
            "a larger first batch (loader.batch_size)."
        )
    scale_F = x_NF.std(axis=0)
    x_NF = (x_NF - x_NF.mean(axis=0)) / np.where(scale_F > 0, scale_F, 1)
    # Raw bits of Philox are the same in every version of numpy.
    bits = np.random.Philox(key=np.asarray(jax.random.key_data(key), np.uint64).ravel())
    return min((_lloyd(x_NF, _start(x_NF, K, bits)) for _ in range(n_init)), key=lambda found: found[1])[0]


def _start(x_NF, K: int, bits) -> np.ndarray:
    """k-means++: each centre is a vector, drawn in proportion to its squared distance from the centres before it."""
    chance_N, centres = np.ones(len(x_NF)), []
    least_N = np.full(len(x_NF), np.inf)
    while len(centres) < K:
        sum_N = np.cumsum(chance_N)
        centres.append(x_NF[np.searchsorted(sum_N, bits.random_raw() / 2**64 * sum_N[-1], side="right")])
        chance_N = least_N = np.minimum(least_N, ((x_NF - centres[-1]) ** 2).sum(axis=1))
    return np.stack(centres)


def _lloyd(x_NF, centre_KF) -> tuple[np.ndarray, float]:
    """Moves the centres until no vector changes its cluster: the clusters, and the sum of squared distances."""
    before_N = None
    for _ in range(ROUNDS):
        cluster_N, far_N = _nearest(x_NF, centre_KF)
        for k in np.flatnonzero(np.bincount(cluster_N, minlength=len(centre_KF)) == 0):
            alone = np.argmax(np.where(np.bincount(cluster_N)[cluster_N] > 1, far_N, -1))
            cluster_N[alone], far_N[alone] = k, 0
        if before_N is not None and (cluster_N == before_N).all():
            break
        before_N = cluster_N
        count_K = np.bincount(cluster_N, minlength=len(centre_KF))
        total_FK = np.stack([np.bincount(cluster_N, x_N, len(centre_KF)) for x_N in x_NF.T])
        centre_KF = (total_FK / count_K).T
    return cluster_N, far_N.sum()


def _nearest(x_NF, centre_KF) -> tuple[np.ndarray, np.ndarray]:
    """The nearest centre of each vector, and its squared distance."""
    rows = max(1, CHUNK // centre_KF.size)
    parts = []
    for start in range(0, len(x_NF), rows):
        far_NK = ((x_NF[start : start + rows, None] - centre_KF) ** 2).sum(axis=-1)
        parts.append((far_NK.argmin(axis=1), far_NK.min(axis=1)))
    return tuple(map(np.concatenate, zip(*parts, strict=True)))
