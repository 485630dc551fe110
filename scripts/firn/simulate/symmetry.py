"""Rotations of the point groups, by closure of two generators; xyz column vectors.

Convention: RELION's axes: C and D groups around z, D with a two-fold on x; T with a three-fold on z; O with four-folds on x, y, z;
I1, I2 (= I) with two-folds on x, y, z, five-fold in xz nearer to x (I1) or z (I2); I3 and I4 with a five-fold on z.
"""

import re

import numpy as np
from scipy.spatial.transform import Rotation

from firn.errors import InputError

GOLDEN = (1 + np.sqrt(5)) / 2
GENERATORS = {
    "T": ((3, (0, 0, 1)), (2, (0, np.sqrt(2), 1))),
    "O": ((4, (0, 0, 1)), (3, (1, 1, 1))),
    "I1": ((3, (1, 1, 1)), (5, (GOLDEN, 0, 1))),
    "I2": ((3, (1, 1, 1)), (5, (1, 0, GOLDEN))),
    "I3": ((5, (0, 0, 1)), (5, (-2, 0, 1))),
    "I4": ((5, (0, 0, 1)), (5, (2, 0, 1))),
}


def symmetry_operators(group: str) -> np.ndarray:
    """Rotations `(g, 3, 3)` of a point group, identity first; raises InputError for an unknown name."""
    found = [np.eye(3)]
    generators = [_turn(fold, axis) for fold, axis in _generators(group)]
    for element in found:
        for product in (generator @ element for generator in generators):
            if min(np.abs(product - known).max() for known in found) > 1e-6:
                found.append(product)
    return np.stack(found)


def _generators(group: str) -> tuple[tuple[int, tuple[float, float, float]], ...]:
    name = group.strip().upper()
    if name in GENERATORS or name == "I":
        return GENERATORS["I2" if name == "I" else name]
    match = re.fullmatch(r"([CD])([1-9]\d?)", name)
    if match is None:
        raise InputError(f"symmetry '{group}' is none of Cn, Dn, T, O, I, I1, I2, I3, I4")
    around_z = (int(match[2]), (0.0, 0.0, 1.0))
    return (around_z,) if match[1] == "C" else (around_z, (2, (1.0, 0.0, 0.0)))


def _turn(fold: int, axis: tuple[float, float, float]) -> np.ndarray:
    direction = np.array(axis) / np.linalg.norm(axis)
    return Rotation.from_rotvec(2 * np.pi / fold * direction).as_matrix()
