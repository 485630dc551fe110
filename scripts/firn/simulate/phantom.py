"""Molecules made of Gaussians, with volumes and projections in closed form.

Convention: positions xyz in Å about the origin, which is index `n // 2` of a box; `r_volume = R r_image`, so an atom at r lies at
`R^T r` in the image. A volume holds weight per voxel and a projection weight per pixel, so both sum to the total weight
and the sum of a volume along z is its projection at R = 1.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Phantom:
    """Gaussians at positions `(k, 3)` xyz with standard deviations widths `(k,)` in Å and integrals weights `(k,)`."""

    positions: np.ndarray
    widths: np.ndarray
    weights: np.ndarray

    def __post_init__(self) -> None:
        count = len(self.positions)
        if np.shape(self.positions) != (count, 3) or np.shape(self.widths) != (count,) or np.shape(self.weights) != (count,):
            raise ValueError(f"positions, widths and weights must be (k, 3), (k,) and (k,), not {np.shape(self.positions)}")

    @property
    def radius(self) -> float:
        """Å. Distance from the origin of the farthest Gaussian's centre."""
        return float(np.linalg.norm(self.positions, axis=1).max())


def random_phantom(
    count: int, radius: float, seed: int, symmetry_operators: np.ndarray | None = None, widths: tuple[float, float] = (4.0, 8.0)
) -> Phantom:
    """A compact, chiral, molecule-like phantom: count Gaussians in lobes of unequal size and weight within a radius in Å.

    With symmetry_operators `(g, 3, 3)` xyz, count Gaussians make the asymmetric unit and their g copies the phantom, else
    the centre of mass is put on the origin. widths: range of the standard deviations in Å.
    """
    chance = np.random.default_rng(seed)
    lobes = _lobe_centres(chance, radius, symmetric=symmetry_operators is not None)
    owner = chance.choice(len(lobes), size=count, p=np.array([0.45, 0.3, 0.15, 0.1]))
    reach = np.array([0.42, 0.32, 0.25, 0.2]) * radius
    positions = lobes[owner] + reach[owner, None] * _points_in_ball(chance, count)
    sigmas, weights = chance.uniform(*widths, count), chance.uniform(0.5, 1.5, count)
    if symmetry_operators is not None:
        copies = len(symmetry_operators)
        positions = np.einsum("gij,kj->gki", symmetry_operators, positions).reshape(-1, 3)
        return Phantom(_inside(positions, radius), np.tile(sigmas, copies), np.tile(weights, copies))
    return Phantom(_inside(positions - np.average(positions, axis=0, weights=weights), radius), sigmas, weights)


def phantom_volume(phantom: Phantom, box: int, pixel_size: float) -> np.ndarray:
    """Density `(z, y, x)` float32 at the voxel centres times the voxel volume; pixel_size in Å."""
    axis = (np.arange(box) - box // 2) * pixel_size
    gx, gy, gz = (_gaussians(axis, phantom.positions[:, i], phantom.widths) * pixel_size for i in range(3))
    volume = np.zeros((box, box * box), dtype=np.float64)
    step = max(1, 2**24 // box**2)
    for start in range(0, len(gx), step):
        part = slice(start, start + step)
        planes = (gy[part, :, None] * gx[part, None, :]).reshape(-1, box * box)
        volume += (phantom.weights[part, None] * gz[part]).T @ planes
    return volume.reshape(box, box, box).astype(np.float32)


def phantom_projection(
    phantom: Phantom, rotation: np.ndarray, box: int, pixel_size: float, shift_xy: tuple[float, float] = (0.0, 0.0)
) -> np.ndarray:
    """Line integral `(y, x)` float32 along the image's z axis times the pixel area.

    rotation: R `(3, 3)` for xyz; shift_xy in Å moves the particle in the image; pixel_size in Å.
    """
    axis = (np.arange(box) - box // 2) * pixel_size
    seen = phantom.positions @ rotation
    gx = _gaussians(axis, seen[:, 0] + shift_xy[0], phantom.widths) * pixel_size
    gy = _gaussians(axis, seen[:, 1] + shift_xy[1], phantom.widths) * pixel_size
    return ((phantom.weights[:, None] * gy).T @ gx).astype(np.float32)


def _gaussians(axis: np.ndarray, centres: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Normalised Gaussians `(k, n)` along one axis."""
    scaled = (axis - centres[:, None]) / widths[:, None]
    return np.exp(-0.5 * scaled**2) / (np.sqrt(2 * np.pi) * widths[:, None])


def _lobe_centres(chance: np.random.Generator, radius: float, symmetric: bool) -> np.ndarray:
    """Four centres that no rotation or mirror maps onto each other; away from the symmetry axes' origin when symmetric."""
    tripod = np.array([[0.0, 0.1, -0.15], [0.5, 0.0, 0.2], [-0.2, 0.55, 0.1], [0.0, -0.3, 0.6]])
    if symmetric:
        tripod = 0.6 * tripod + np.array([0.45, 0.2, 0.3])
    return radius * (tripod + chance.uniform(-0.08, 0.08, (4, 3)))


def _points_in_ball(chance: np.random.Generator, count: int) -> np.ndarray:
    directions = chance.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return directions * chance.uniform(0, 1, (count, 1)) ** (1 / 3)


def _inside(positions: np.ndarray, radius: float) -> np.ndarray:
    """Shrunk so that all lie within the radius."""
    return positions * min(1.0, radius / float(np.linalg.norm(positions, axis=1).max()))
