"""Particles found twice: pairs too close in one micrograph, of which the better is kept.

Convention: points `(n, 2)` in Å, in the frame of their micrograph.
"""

import numpy as np
from scipy.spatial import cKDTree


def find_duplicates(points: np.ndarray, micrograph: np.ndarray, quality: np.ndarray, distance: float) -> np.ndarray:
    """Whether each of n particles lies closer than `distance` to a better one that is kept; of equals the first is better.

    micrograph: integers that tell micrographs apart. quality: larger is better. Removal is greedy, best first.
    """
    rank = np.empty(len(points), dtype=np.int64)
    rank[np.argsort(-quality, kind="stable")] = np.arange(len(points))
    pairs = cKDTree(_apart(points, micrograph, distance)).query_pairs(distance, output_type="ndarray")
    ranked = np.sort(rank[pairs], axis=1)
    dropped = np.zeros(len(points), dtype=bool)
    for better, worse in ranked[np.lexsort((ranked[:, 1], ranked[:, 0]))]:
        dropped[worse] |= not dropped[better]
    return dropped[rank]


def nearest_distances(points: np.ndarray, micrograph: np.ndarray, limit: float) -> np.ndarray:
    """Distance of each particle to the nearest other in its micrograph; inf where none is within the limit."""
    return cKDTree(_apart(points, micrograph, limit)).query(_apart(points, micrograph, limit), k=2, distance_upper_bound=limit)[0][:, 1]


def _apart(points: np.ndarray, micrograph: np.ndarray, distance: float) -> np.ndarray:
    """Points with the micrograph as a third coordinate, so spaced that no two micrographs come near each other."""
    return np.column_stack((points, micrograph * (4.0 * distance)))
