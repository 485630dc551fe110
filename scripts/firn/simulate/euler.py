"""Euler angles by their own formula: `r_volume = R r_image`, `R = Rz(rot) Ry(tilt) Rz(psi)`, column vectors xyz.

Source: Heymann, Chagoyen & Belnap, J. Struct. Biol. 151, 196 (2005); RELION's Euler matrix is the transpose.
"""

import numpy as np


def euler_to_matrix(rot: np.ndarray | float, tilt: np.ndarray | float, psi: np.ndarray | float) -> np.ndarray:
    """Matrices `(*b, 3, 3)` for xyz column vectors from angles in degrees."""
    angles = [np.deg2rad(np.asarray(angle, dtype=np.float64)) for angle in np.broadcast_arrays(rot, tilt, psi)]
    (a, b, c), (u, v, w) = ([function(angle) for angle in angles] for function in (np.cos, np.sin))
    rows = (
        (a * b * c - u * w, -a * b * w - u * c, a * v),
        (u * b * c + a * w, -u * b * w + a * c, u * v),
        (-v * c, v * w, b),
    )
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def matrix_to_euler(matrices: np.ndarray) -> np.ndarray:
    """(rot, tilt, psi) `(*b, 3)` in degrees of matrices `(*b, 3, 3)`, tilt in [0, 180]; rot is 0 at the poles."""
    tilt = np.arccos(np.clip(matrices[..., 2, 2], -1, 1))
    pole = np.hypot(matrices[..., 0, 2], matrices[..., 1, 2]) < 1e-7
    rot = np.where(pole, 0.0, np.arctan2(matrices[..., 1, 2], matrices[..., 0, 2]))
    at_pole = np.arctan2(matrices[..., 1, 0], matrices[..., 1, 1])
    psi = np.where(pole, at_pole, np.arctan2(matrices[..., 2, 1], -matrices[..., 2, 0]))
    return np.rad2deg(np.stack((rot, tilt, psi), axis=-1))


def random_matrices(count: int, generator: np.random.Generator) -> np.ndarray:
    """Rotations `(count, 3, 3)` uniform over the group: rot and psi uniform, cos(tilt) uniform."""
    rot, psi = generator.uniform(-180, 180, (2, count))
    tilt = np.rad2deg(np.arccos(generator.uniform(-1, 1, count)))
    return euler_to_matrix(rot, tilt, psi)


def rotation_angle(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Angle `(*b)` in degrees between rotations `(*b, 3, 3)`."""
    trace = np.einsum("...ij,...ij->...", first, second)
    return np.rad2deg(np.arccos(np.clip((trace - 1) / 2, -1, 1)))
